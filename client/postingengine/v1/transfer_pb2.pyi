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

class TransferKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TRANSFER_KIND_UNSPECIFIED: _ClassVar[TransferKind]
    TRANSFER_KIND_POST: _ClassVar[TransferKind]
    TRANSFER_KIND_RESERVE: _ClassVar[TransferKind]
    TRANSFER_KIND_COMMIT: _ClassVar[TransferKind]
    TRANSFER_KIND_RELEASE: _ClassVar[TransferKind]
    TRANSFER_KIND_REVERSE: _ClassVar[TransferKind]

class TransferFlag(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TRANSFER_FLAG_UNSPECIFIED: _ClassVar[TransferFlag]
    TRANSFER_FLAG_LINKED: _ClassVar[TransferFlag]
    TRANSFER_FLAG_BALANCING_DEBIT: _ClassVar[TransferFlag]
    TRANSFER_FLAG_BALANCING_CREDIT: _ClassVar[TransferFlag]
    TRANSFER_FLAG_FORCE: _ClassVar[TransferFlag]
    TRANSFER_FLAG_KEEP_REST: _ClassVar[TransferFlag]

class ChainState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CHAIN_STATE_UNSPECIFIED: _ClassVar[ChainState]
    CHAIN_STATE_OPEN: _ClassVar[ChainState]
    CHAIN_STATE_POSTED: _ClassVar[ChainState]
    CHAIN_STATE_REFUSED: _ClassVar[ChainState]

class ReservationState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    RESERVATION_STATE_UNSPECIFIED: _ClassVar[ReservationState]
    RESERVATION_STATE_OPEN: _ClassVar[ReservationState]
    RESERVATION_STATE_COMMITTED: _ClassVar[ReservationState]
    RESERVATION_STATE_RELEASED: _ClassVar[ReservationState]
    RESERVATION_STATE_EXPIRED: _ClassVar[ReservationState]
TRANSFER_KIND_UNSPECIFIED: TransferKind
TRANSFER_KIND_POST: TransferKind
TRANSFER_KIND_RESERVE: TransferKind
TRANSFER_KIND_COMMIT: TransferKind
TRANSFER_KIND_RELEASE: TransferKind
TRANSFER_KIND_REVERSE: TransferKind
TRANSFER_FLAG_UNSPECIFIED: TransferFlag
TRANSFER_FLAG_LINKED: TransferFlag
TRANSFER_FLAG_BALANCING_DEBIT: TransferFlag
TRANSFER_FLAG_BALANCING_CREDIT: TransferFlag
TRANSFER_FLAG_FORCE: TransferFlag
TRANSFER_FLAG_KEEP_REST: TransferFlag
CHAIN_STATE_UNSPECIFIED: ChainState
CHAIN_STATE_OPEN: ChainState
CHAIN_STATE_POSTED: ChainState
CHAIN_STATE_REFUSED: ChainState
RESERVATION_STATE_UNSPECIFIED: ReservationState
RESERVATION_STATE_OPEN: ReservationState
RESERVATION_STATE_COMMITTED: ReservationState
RESERVATION_STATE_RELEASED: ReservationState
RESERVATION_STATE_EXPIRED: ReservationState

class Transfer(_message.Message):
    __slots__ = ("id", "debit_account", "credit_account", "amount", "ledger", "kind", "flags", "followed", "reference", "code", "timeout_s", "effective_at")
    ID_FIELD_NUMBER: _ClassVar[int]
    DEBIT_ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    CREDIT_ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    AMOUNT_FIELD_NUMBER: _ClassVar[int]
    LEDGER_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    FLAGS_FIELD_NUMBER: _ClassVar[int]
    FOLLOWED_FIELD_NUMBER: _ClassVar[int]
    REFERENCE_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_S_FIELD_NUMBER: _ClassVar[int]
    EFFECTIVE_AT_FIELD_NUMBER: _ClassVar[int]
    id: bytes
    debit_account: bytes
    credit_account: bytes
    amount: _types_pb2.Uint128
    ledger: int
    kind: TransferKind
    flags: _containers.RepeatedScalarFieldContainer[TransferFlag]
    followed: bytes
    reference: bytes
    code: int
    timeout_s: int
    effective_at: int
    def __init__(self, id: _Optional[bytes] = ..., debit_account: _Optional[bytes] = ..., credit_account: _Optional[bytes] = ..., amount: _Optional[_Union[_types_pb2.Uint128, _Mapping]] = ..., ledger: _Optional[int] = ..., kind: _Optional[_Union[TransferKind, str]] = ..., flags: _Optional[_Iterable[_Union[TransferFlag, str]]] = ..., followed: _Optional[bytes] = ..., reference: _Optional[bytes] = ..., code: _Optional[int] = ..., timeout_s: _Optional[int] = ..., effective_at: _Optional[int] = ...) -> None: ...

class TransferResult(_message.Message):
    __slots__ = ("outcome", "fault", "replayed", "in_flight", "timestamp", "group", "position")
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    FAULT_FIELD_NUMBER: _ClassVar[int]
    REPLAYED_FIELD_NUMBER: _ClassVar[int]
    IN_FLIGHT_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMP_FIELD_NUMBER: _ClassVar[int]
    GROUP_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    outcome: _outcome_pb2.Outcome
    fault: _status_pb2.Status
    replayed: bool
    in_flight: bool
    timestamp: int
    group: int
    position: int
    def __init__(self, outcome: _Optional[_Union[_outcome_pb2.Outcome, str]] = ..., fault: _Optional[_Union[_status_pb2.Status, _Mapping]] = ..., replayed: _Optional[bool] = ..., in_flight: _Optional[bool] = ..., timestamp: _Optional[int] = ..., group: _Optional[int] = ..., position: _Optional[int] = ...) -> None: ...

class StoredTransfer(_message.Message):
    __slots__ = ("transfer", "moved", "outcome", "timestamp", "group", "position", "leg", "chain_state", "reservation_state", "reversed")
    TRANSFER_FIELD_NUMBER: _ClassVar[int]
    MOVED_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMP_FIELD_NUMBER: _ClassVar[int]
    GROUP_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    LEG_FIELD_NUMBER: _ClassVar[int]
    CHAIN_STATE_FIELD_NUMBER: _ClassVar[int]
    RESERVATION_STATE_FIELD_NUMBER: _ClassVar[int]
    REVERSED_FIELD_NUMBER: _ClassVar[int]
    transfer: Transfer
    moved: _types_pb2.Uint128
    outcome: _outcome_pb2.Outcome
    timestamp: int
    group: int
    position: int
    leg: int
    chain_state: ChainState
    reservation_state: ReservationState
    reversed: _types_pb2.Uint128
    def __init__(self, transfer: _Optional[_Union[Transfer, _Mapping]] = ..., moved: _Optional[_Union[_types_pb2.Uint128, _Mapping]] = ..., outcome: _Optional[_Union[_outcome_pb2.Outcome, str]] = ..., timestamp: _Optional[int] = ..., group: _Optional[int] = ..., position: _Optional[int] = ..., leg: _Optional[int] = ..., chain_state: _Optional[_Union[ChainState, str]] = ..., reservation_state: _Optional[_Union[ReservationState, str]] = ..., reversed: _Optional[_Union[_types_pb2.Uint128, _Mapping]] = ...) -> None: ...
