from google.rpc import status_pb2 as _status_pb2
from postingengine.v1 import account_pb2 as _account_pb2
from postingengine.v1 import fault_pb2 as _fault_pb2
from postingengine.v1 import statement_pb2 as _statement_pb2
from postingengine.v1 import transfer_pb2 as _transfer_pb2
from postingengine.v1 import types_pb2 as _types_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class CreateAccountsRequest(_message.Message):
    __slots__ = ("accounts", "attempt")
    ACCOUNTS_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    accounts: _containers.RepeatedCompositeFieldContainer[_account_pb2.Account]
    attempt: int
    def __init__(self, accounts: _Optional[_Iterable[_Union[_account_pb2.Account, _Mapping]]] = ..., attempt: _Optional[int] = ...) -> None: ...

class CreateAccountsResponse(_message.Message):
    __slots__ = ("results", "log_indexes")
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    LOG_INDEXES_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[_account_pb2.AccountResult]
    log_indexes: _containers.RepeatedCompositeFieldContainer[_types_pb2.GroupLogIndex]
    def __init__(self, results: _Optional[_Iterable[_Union[_account_pb2.AccountResult, _Mapping]]] = ..., log_indexes: _Optional[_Iterable[_Union[_types_pb2.GroupLogIndex, _Mapping]]] = ...) -> None: ...

class UpdateAccountsRequest(_message.Message):
    __slots__ = ("updates", "attempt")
    UPDATES_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    updates: _containers.RepeatedCompositeFieldContainer[_account_pb2.AccountUpdate]
    attempt: int
    def __init__(self, updates: _Optional[_Iterable[_Union[_account_pb2.AccountUpdate, _Mapping]]] = ..., attempt: _Optional[int] = ...) -> None: ...

class UpdateAccountsResponse(_message.Message):
    __slots__ = ("results", "log_indexes")
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    LOG_INDEXES_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[_account_pb2.AccountResult]
    log_indexes: _containers.RepeatedCompositeFieldContainer[_types_pb2.GroupLogIndex]
    def __init__(self, results: _Optional[_Iterable[_Union[_account_pb2.AccountResult, _Mapping]]] = ..., log_indexes: _Optional[_Iterable[_Union[_types_pb2.GroupLogIndex, _Mapping]]] = ...) -> None: ...

class PostTransfersRequest(_message.Message):
    __slots__ = ("transfers", "packed", "attempt")
    TRANSFERS_FIELD_NUMBER: _ClassVar[int]
    PACKED_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    transfers: _containers.RepeatedCompositeFieldContainer[_transfer_pb2.Transfer]
    packed: bytes
    attempt: int
    def __init__(self, transfers: _Optional[_Iterable[_Union[_transfer_pb2.Transfer, _Mapping]]] = ..., packed: _Optional[bytes] = ..., attempt: _Optional[int] = ...) -> None: ...

class PostTransfersResponse(_message.Message):
    __slots__ = ("results", "packed_results", "faults", "log_indexes")
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    PACKED_RESULTS_FIELD_NUMBER: _ClassVar[int]
    FAULTS_FIELD_NUMBER: _ClassVar[int]
    LOG_INDEXES_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[_transfer_pb2.TransferResult]
    packed_results: bytes
    faults: _containers.RepeatedCompositeFieldContainer[_fault_pb2.ItemFault]
    log_indexes: _containers.RepeatedCompositeFieldContainer[_types_pb2.GroupLogIndex]
    def __init__(self, results: _Optional[_Iterable[_Union[_transfer_pb2.TransferResult, _Mapping]]] = ..., packed_results: _Optional[bytes] = ..., faults: _Optional[_Iterable[_Union[_fault_pb2.ItemFault, _Mapping]]] = ..., log_indexes: _Optional[_Iterable[_Union[_types_pb2.GroupLogIndex, _Mapping]]] = ...) -> None: ...

class StreamTransfersRequest(_message.Message):
    __slots__ = ("batch_number", "batch", "timeout_ms")
    BATCH_NUMBER_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_MS_FIELD_NUMBER: _ClassVar[int]
    batch_number: int
    batch: PostTransfersRequest
    timeout_ms: int
    def __init__(self, batch_number: _Optional[int] = ..., batch: _Optional[_Union[PostTransfersRequest, _Mapping]] = ..., timeout_ms: _Optional[int] = ...) -> None: ...

class StreamTransfersResponse(_message.Message):
    __slots__ = ("batch_number", "results", "fault")
    BATCH_NUMBER_FIELD_NUMBER: _ClassVar[int]
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    FAULT_FIELD_NUMBER: _ClassVar[int]
    batch_number: int
    results: PostTransfersResponse
    fault: _status_pb2.Status
    def __init__(self, batch_number: _Optional[int] = ..., results: _Optional[_Union[PostTransfersResponse, _Mapping]] = ..., fault: _Optional[_Union[_status_pb2.Status, _Mapping]] = ...) -> None: ...

class GetAccountsRequest(_message.Message):
    __slots__ = ("ids", "consistency", "with_buckets")
    IDS_FIELD_NUMBER: _ClassVar[int]
    CONSISTENCY_FIELD_NUMBER: _ClassVar[int]
    WITH_BUCKETS_FIELD_NUMBER: _ClassVar[int]
    ids: _containers.RepeatedScalarFieldContainer[bytes]
    consistency: _types_pb2.Consistency
    with_buckets: bool
    def __init__(self, ids: _Optional[_Iterable[bytes]] = ..., consistency: _Optional[_Union[_types_pb2.Consistency, _Mapping]] = ..., with_buckets: _Optional[bool] = ...) -> None: ...

class GetAccountsResponse(_message.Message):
    __slots__ = ("accounts",)
    ACCOUNTS_FIELD_NUMBER: _ClassVar[int]
    accounts: _containers.RepeatedCompositeFieldContainer[_account_pb2.AccountAnswer]
    def __init__(self, accounts: _Optional[_Iterable[_Union[_account_pb2.AccountAnswer, _Mapping]]] = ...) -> None: ...

class GetTransfersRequest(_message.Message):
    __slots__ = ("ids", "consistency")
    IDS_FIELD_NUMBER: _ClassVar[int]
    CONSISTENCY_FIELD_NUMBER: _ClassVar[int]
    ids: _containers.RepeatedScalarFieldContainer[bytes]
    consistency: _types_pb2.Consistency
    def __init__(self, ids: _Optional[_Iterable[bytes]] = ..., consistency: _Optional[_Union[_types_pb2.Consistency, _Mapping]] = ...) -> None: ...

class TransferAnswer(_message.Message):
    __slots__ = ("stored", "fault")
    STORED_FIELD_NUMBER: _ClassVar[int]
    FAULT_FIELD_NUMBER: _ClassVar[int]
    stored: _transfer_pb2.StoredTransfer
    fault: _status_pb2.Status
    def __init__(self, stored: _Optional[_Union[_transfer_pb2.StoredTransfer, _Mapping]] = ..., fault: _Optional[_Union[_status_pb2.Status, _Mapping]] = ...) -> None: ...

class GetTransfersResponse(_message.Message):
    __slots__ = ("transfers", "read_at")
    TRANSFERS_FIELD_NUMBER: _ClassVar[int]
    READ_AT_FIELD_NUMBER: _ClassVar[int]
    transfers: _containers.RepeatedCompositeFieldContainer[TransferAnswer]
    read_at: _containers.RepeatedCompositeFieldContainer[_types_pb2.ReadPoint]
    def __init__(self, transfers: _Optional[_Iterable[_Union[TransferAnswer, _Mapping]]] = ..., read_at: _Optional[_Iterable[_Union[_types_pb2.ReadPoint, _Mapping]]] = ...) -> None: ...

class ListEntriesRequest(_message.Message):
    __slots__ = ("account", "basis", "from_time", "to_time", "page_size", "page_token", "consistency")
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    BASIS_FIELD_NUMBER: _ClassVar[int]
    FROM_TIME_FIELD_NUMBER: _ClassVar[int]
    TO_TIME_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    CONSISTENCY_FIELD_NUMBER: _ClassVar[int]
    account: bytes
    basis: _types_pb2.Basis
    from_time: int
    to_time: int
    page_size: int
    page_token: str
    consistency: _types_pb2.Consistency
    def __init__(self, account: _Optional[bytes] = ..., basis: _Optional[_Union[_types_pb2.Basis, str]] = ..., from_time: _Optional[int] = ..., to_time: _Optional[int] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., consistency: _Optional[_Union[_types_pb2.Consistency, _Mapping]] = ...) -> None: ...

class ListEntriesResponse(_message.Message):
    __slots__ = ("entries", "next_page_token", "read_at")
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    READ_AT_FIELD_NUMBER: _ClassVar[int]
    entries: _containers.RepeatedCompositeFieldContainer[_statement_pb2.Entry]
    next_page_token: str
    read_at: _types_pb2.ReadPoint
    def __init__(self, entries: _Optional[_Iterable[_Union[_statement_pb2.Entry, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., read_at: _Optional[_Union[_types_pb2.ReadPoint, _Mapping]] = ...) -> None: ...

class GetBalanceAtRequest(_message.Message):
    __slots__ = ("account", "basis", "time", "consistency")
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    BASIS_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    CONSISTENCY_FIELD_NUMBER: _ClassVar[int]
    account: bytes
    basis: _types_pb2.Basis
    time: int
    consistency: _types_pb2.Consistency
    def __init__(self, account: _Optional[bytes] = ..., basis: _Optional[_Union[_types_pb2.Basis, str]] = ..., time: _Optional[int] = ..., consistency: _Optional[_Union[_types_pb2.Consistency, _Mapping]] = ...) -> None: ...

class GetBalanceAtResponse(_message.Message):
    __slots__ = ("balance", "read_at")
    BALANCE_FIELD_NUMBER: _ClassVar[int]
    READ_AT_FIELD_NUMBER: _ClassVar[int]
    balance: _statement_pb2.PostedBalance
    read_at: _types_pb2.ReadPoint
    def __init__(self, balance: _Optional[_Union[_statement_pb2.PostedBalance, _Mapping]] = ..., read_at: _Optional[_Union[_types_pb2.ReadPoint, _Mapping]] = ...) -> None: ...

class ListLedgersRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListLedgersResponse(_message.Message):
    __slots__ = ("ledgers", "next_page_token")
    LEDGERS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    ledgers: _containers.RepeatedCompositeFieldContainer[_types_pb2.Ledger]
    next_page_token: str
    def __init__(self, ledgers: _Optional[_Iterable[_Union[_types_pb2.Ledger, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...
