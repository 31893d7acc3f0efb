from google.rpc import status_pb2 as _status_pb2
from postingengine.v1 import outcome_pb2 as _outcome_pb2
from postingengine.v1 import types_pb2 as _types_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class AccountFlag(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ACCOUNT_FLAG_UNSPECIFIED: _ClassVar[AccountFlag]
    ACCOUNT_FLAG_DEBITS_MUST_NOT_EXCEED_CREDITS: _ClassVar[AccountFlag]
    ACCOUNT_FLAG_CREDITS_MUST_NOT_EXCEED_DEBITS: _ClassVar[AccountFlag]
    ACCOUNT_FLAG_FROZEN: _ClassVar[AccountFlag]
    ACCOUNT_FLAG_CLOSED: _ClassVar[AccountFlag]
    ACCOUNT_FLAG_TRANSIT: _ClassVar[AccountFlag]
    ACCOUNT_FLAG_BUCKET: _ClassVar[AccountFlag]
    ACCOUNT_FLAG_SHARE: _ClassVar[AccountFlag]
ACCOUNT_FLAG_UNSPECIFIED: AccountFlag
ACCOUNT_FLAG_DEBITS_MUST_NOT_EXCEED_CREDITS: AccountFlag
ACCOUNT_FLAG_CREDITS_MUST_NOT_EXCEED_DEBITS: AccountFlag
ACCOUNT_FLAG_FROZEN: AccountFlag
ACCOUNT_FLAG_CLOSED: AccountFlag
ACCOUNT_FLAG_TRANSIT: AccountFlag
ACCOUNT_FLAG_BUCKET: AccountFlag
ACCOUNT_FLAG_SHARE: AccountFlag

class Account(_message.Message):
    __slots__ = ("id", "ledger", "code", "flags", "overdraft_limit", "reference")
    ID_FIELD_NUMBER: _ClassVar[int]
    LEDGER_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    FLAGS_FIELD_NUMBER: _ClassVar[int]
    OVERDRAFT_LIMIT_FIELD_NUMBER: _ClassVar[int]
    REFERENCE_FIELD_NUMBER: _ClassVar[int]
    id: bytes
    ledger: int
    code: int
    flags: _containers.RepeatedScalarFieldContainer[AccountFlag]
    overdraft_limit: _types_pb2.Uint128
    reference: bytes
    def __init__(self, id: _Optional[bytes] = ..., ledger: _Optional[int] = ..., code: _Optional[int] = ..., flags: _Optional[_Iterable[_Union[AccountFlag, str]]] = ..., overdraft_limit: _Optional[_Union[_types_pb2.Uint128, _Mapping]] = ..., reference: _Optional[bytes] = ...) -> None: ...

class AccountUpdate(_message.Message):
    __slots__ = ("id", "account", "ledger", "expected_version", "overdraft_limit", "frozen", "closed", "reference", "code")
    ID_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    LEDGER_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_VERSION_FIELD_NUMBER: _ClassVar[int]
    OVERDRAFT_LIMIT_FIELD_NUMBER: _ClassVar[int]
    FROZEN_FIELD_NUMBER: _ClassVar[int]
    CLOSED_FIELD_NUMBER: _ClassVar[int]
    REFERENCE_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    id: bytes
    account: bytes
    ledger: int
    expected_version: int
    overdraft_limit: _types_pb2.Uint128
    frozen: bool
    closed: bool
    reference: bytes
    code: int
    def __init__(self, id: _Optional[bytes] = ..., account: _Optional[bytes] = ..., ledger: _Optional[int] = ..., expected_version: _Optional[int] = ..., overdraft_limit: _Optional[_Union[_types_pb2.Uint128, _Mapping]] = ..., frozen: _Optional[bool] = ..., closed: _Optional[bool] = ..., reference: _Optional[bytes] = ..., code: _Optional[int] = ...) -> None: ...

class AccountResult(_message.Message):
    __slots__ = ("outcome", "fault", "replayed", "timestamp", "group", "position")
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    FAULT_FIELD_NUMBER: _ClassVar[int]
    REPLAYED_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMP_FIELD_NUMBER: _ClassVar[int]
    GROUP_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    outcome: _outcome_pb2.Outcome
    fault: _status_pb2.Status
    replayed: bool
    timestamp: int
    group: int
    position: int
    def __init__(self, outcome: _Optional[_Union[_outcome_pb2.Outcome, str]] = ..., fault: _Optional[_Union[_status_pb2.Status, _Mapping]] = ..., replayed: _Optional[bool] = ..., timestamp: _Optional[int] = ..., group: _Optional[int] = ..., position: _Optional[int] = ...) -> None: ...

class Balances(_message.Message):
    __slots__ = ("debits_posted", "credits_posted", "debits_reserved", "credits_reserved", "balance", "available")
    DEBITS_POSTED_FIELD_NUMBER: _ClassVar[int]
    CREDITS_POSTED_FIELD_NUMBER: _ClassVar[int]
    DEBITS_RESERVED_FIELD_NUMBER: _ClassVar[int]
    CREDITS_RESERVED_FIELD_NUMBER: _ClassVar[int]
    BALANCE_FIELD_NUMBER: _ClassVar[int]
    AVAILABLE_FIELD_NUMBER: _ClassVar[int]
    debits_posted: _types_pb2.Uint128
    credits_posted: _types_pb2.Uint128
    debits_reserved: _types_pb2.Uint128
    credits_reserved: _types_pb2.Uint128
    balance: _types_pb2.Int128
    available: _types_pb2.Int128
    def __init__(self, debits_posted: _Optional[_Union[_types_pb2.Uint128, _Mapping]] = ..., credits_posted: _Optional[_Union[_types_pb2.Uint128, _Mapping]] = ..., debits_reserved: _Optional[_Union[_types_pb2.Uint128, _Mapping]] = ..., credits_reserved: _Optional[_Union[_types_pb2.Uint128, _Mapping]] = ..., balance: _Optional[_Union[_types_pb2.Int128, _Mapping]] = ..., available: _Optional[_Union[_types_pb2.Int128, _Mapping]] = ...) -> None: ...

class AccountState(_message.Message):
    __slots__ = ("account", "version", "created_at", "balances")
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    BALANCES_FIELD_NUMBER: _ClassVar[int]
    account: Account
    version: int
    created_at: int
    balances: Balances
    def __init__(self, account: _Optional[_Union[Account, _Mapping]] = ..., version: _Optional[int] = ..., created_at: _Optional[int] = ..., balances: _Optional[_Union[Balances, _Mapping]] = ...) -> None: ...

class AccountAnswer(_message.Message):
    __slots__ = ("state", "fault", "read_at", "buckets")
    STATE_FIELD_NUMBER: _ClassVar[int]
    FAULT_FIELD_NUMBER: _ClassVar[int]
    READ_AT_FIELD_NUMBER: _ClassVar[int]
    BUCKETS_FIELD_NUMBER: _ClassVar[int]
    state: AccountState
    fault: _status_pb2.Status
    read_at: _types_pb2.ReadPoint
    buckets: _containers.RepeatedCompositeFieldContainer[BucketState]
    def __init__(self, state: _Optional[_Union[AccountState, _Mapping]] = ..., fault: _Optional[_Union[_status_pb2.Status, _Mapping]] = ..., read_at: _Optional[_Union[_types_pb2.ReadPoint, _Mapping]] = ..., buckets: _Optional[_Iterable[_Union[BucketState, _Mapping]]] = ...) -> None: ...

class BucketState(_message.Message):
    __slots__ = ("group", "balances", "moved_in", "moving_out", "log_index")
    GROUP_FIELD_NUMBER: _ClassVar[int]
    BALANCES_FIELD_NUMBER: _ClassVar[int]
    MOVED_IN_FIELD_NUMBER: _ClassVar[int]
    MOVING_OUT_FIELD_NUMBER: _ClassVar[int]
    LOG_INDEX_FIELD_NUMBER: _ClassVar[int]
    group: int
    balances: Balances
    moved_in: _types_pb2.Int128
    moving_out: _types_pb2.Uint128
    log_index: int
    def __init__(self, group: _Optional[int] = ..., balances: _Optional[_Union[Balances, _Mapping]] = ..., moved_in: _Optional[_Union[_types_pb2.Int128, _Mapping]] = ..., moving_out: _Optional[_Union[_types_pb2.Uint128, _Mapping]] = ..., log_index: _Optional[int] = ...) -> None: ...
