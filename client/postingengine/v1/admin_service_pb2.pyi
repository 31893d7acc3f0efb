from google.rpc import status_pb2 as _status_pb2
from postingengine.v1 import transfer_pb2 as _transfer_pb2
from postingengine.v1 import types_pb2 as _types_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ReplicaRole(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    REPLICA_ROLE_UNSPECIFIED: _ClassVar[ReplicaRole]
    REPLICA_ROLE_LEADER: _ClassVar[ReplicaRole]
    REPLICA_ROLE_FOLLOWER: _ClassVar[ReplicaRole]
    REPLICA_ROLE_CANDIDATE: _ClassVar[ReplicaRole]
REPLICA_ROLE_UNSPECIFIED: ReplicaRole
REPLICA_ROLE_LEADER: ReplicaRole
REPLICA_ROLE_FOLLOWER: ReplicaRole
REPLICA_ROLE_CANDIDATE: ReplicaRole

class SlotRange(_message.Message):
    __slots__ = ("first", "last")
    FIRST_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    first: int
    last: int
    def __init__(self, first: _Optional[int] = ..., last: _Optional[int] = ...) -> None: ...

class ReplicaDescription(_message.Message):
    __slots__ = ("replica", "address", "role", "term", "first_log_index", "last_log_index", "commit_index", "durable_index", "applied_index", "lag_records", "log_bytes", "next_position", "read_model_lag", "uptime_ms", "version", "fault", "metrics_address")
    REPLICA_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    TERM_FIELD_NUMBER: _ClassVar[int]
    FIRST_LOG_INDEX_FIELD_NUMBER: _ClassVar[int]
    LAST_LOG_INDEX_FIELD_NUMBER: _ClassVar[int]
    COMMIT_INDEX_FIELD_NUMBER: _ClassVar[int]
    DURABLE_INDEX_FIELD_NUMBER: _ClassVar[int]
    APPLIED_INDEX_FIELD_NUMBER: _ClassVar[int]
    LAG_RECORDS_FIELD_NUMBER: _ClassVar[int]
    LOG_BYTES_FIELD_NUMBER: _ClassVar[int]
    NEXT_POSITION_FIELD_NUMBER: _ClassVar[int]
    READ_MODEL_LAG_FIELD_NUMBER: _ClassVar[int]
    UPTIME_MS_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    FAULT_FIELD_NUMBER: _ClassVar[int]
    METRICS_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    replica: str
    address: str
    role: ReplicaRole
    term: int
    first_log_index: int
    last_log_index: int
    commit_index: int
    durable_index: int
    applied_index: int
    lag_records: int
    log_bytes: int
    next_position: int
    read_model_lag: int
    uptime_ms: int
    version: str
    fault: _status_pb2.Status
    metrics_address: str
    def __init__(self, replica: _Optional[str] = ..., address: _Optional[str] = ..., role: _Optional[_Union[ReplicaRole, str]] = ..., term: _Optional[int] = ..., first_log_index: _Optional[int] = ..., last_log_index: _Optional[int] = ..., commit_index: _Optional[int] = ..., durable_index: _Optional[int] = ..., applied_index: _Optional[int] = ..., lag_records: _Optional[int] = ..., log_bytes: _Optional[int] = ..., next_position: _Optional[int] = ..., read_model_lag: _Optional[int] = ..., uptime_ms: _Optional[int] = ..., version: _Optional[str] = ..., fault: _Optional[_Union[_status_pb2.Status, _Mapping]] = ..., metrics_address: _Optional[str] = ...) -> None: ...

class GroupDescription(_message.Message):
    __slots__ = ("group", "slots", "leader", "replicas", "accounts", "open_reservations")
    GROUP_FIELD_NUMBER: _ClassVar[int]
    SLOTS_FIELD_NUMBER: _ClassVar[int]
    LEADER_FIELD_NUMBER: _ClassVar[int]
    REPLICAS_FIELD_NUMBER: _ClassVar[int]
    ACCOUNTS_FIELD_NUMBER: _ClassVar[int]
    OPEN_RESERVATIONS_FIELD_NUMBER: _ClassVar[int]
    group: int
    slots: _containers.RepeatedCompositeFieldContainer[SlotRange]
    leader: str
    replicas: _containers.RepeatedCompositeFieldContainer[ReplicaDescription]
    accounts: int
    open_reservations: int
    def __init__(self, group: _Optional[int] = ..., slots: _Optional[_Iterable[_Union[SlotRange, _Mapping]]] = ..., leader: _Optional[str] = ..., replicas: _Optional[_Iterable[_Union[ReplicaDescription, _Mapping]]] = ..., accounts: _Optional[int] = ..., open_reservations: _Optional[int] = ...) -> None: ...

class DescribeClusterRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class DescribeClusterResponse(_message.Message):
    __slots__ = ("cluster_id", "placement_epoch", "hash_seed", "groups", "ledgers", "differences")
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    PLACEMENT_EPOCH_FIELD_NUMBER: _ClassVar[int]
    HASH_SEED_FIELD_NUMBER: _ClassVar[int]
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    LEDGERS_FIELD_NUMBER: _ClassVar[int]
    DIFFERENCES_FIELD_NUMBER: _ClassVar[int]
    cluster_id: str
    placement_epoch: int
    hash_seed: int
    groups: _containers.RepeatedCompositeFieldContainer[GroupDescription]
    ledgers: _containers.RepeatedCompositeFieldContainer[_types_pb2.Ledger]
    differences: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, cluster_id: _Optional[str] = ..., placement_epoch: _Optional[int] = ..., hash_seed: _Optional[int] = ..., groups: _Optional[_Iterable[_Union[GroupDescription, _Mapping]]] = ..., ledgers: _Optional[_Iterable[_Union[_types_pb2.Ledger, _Mapping]]] = ..., differences: _Optional[_Iterable[str]] = ...) -> None: ...

class ListOpenRequest(_message.Message):
    __slots__ = ("groups", "page_size", "page_token")
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    groups: _containers.RepeatedScalarFieldContainer[int]
    page_size: int
    page_token: str
    def __init__(self, groups: _Optional[_Iterable[int]] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class OpenReservation(_message.Message):
    __slots__ = ("id", "debit_account", "credit_account", "ledger", "amount", "remaining", "timestamp", "deadline", "age_ns", "group", "position", "decider")
    ID_FIELD_NUMBER: _ClassVar[int]
    DEBIT_ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    CREDIT_ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    LEDGER_FIELD_NUMBER: _ClassVar[int]
    AMOUNT_FIELD_NUMBER: _ClassVar[int]
    REMAINING_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMP_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_FIELD_NUMBER: _ClassVar[int]
    AGE_NS_FIELD_NUMBER: _ClassVar[int]
    GROUP_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    DECIDER_FIELD_NUMBER: _ClassVar[int]
    id: bytes
    debit_account: bytes
    credit_account: bytes
    ledger: int
    amount: _types_pb2.Uint128
    remaining: _types_pb2.Uint128
    timestamp: int
    deadline: int
    age_ns: int
    group: int
    position: int
    decider: int
    def __init__(self, id: _Optional[bytes] = ..., debit_account: _Optional[bytes] = ..., credit_account: _Optional[bytes] = ..., ledger: _Optional[int] = ..., amount: _Optional[_Union[_types_pb2.Uint128, _Mapping]] = ..., remaining: _Optional[_Union[_types_pb2.Uint128, _Mapping]] = ..., timestamp: _Optional[int] = ..., deadline: _Optional[int] = ..., age_ns: _Optional[int] = ..., group: _Optional[int] = ..., position: _Optional[int] = ..., decider: _Optional[int] = ...) -> None: ...

class OpenLeg(_message.Message):
    __slots__ = ("id", "kind", "debit_account", "credit_account", "ledger", "amount", "debit_group", "credit_group")
    ID_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    DEBIT_ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    CREDIT_ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    LEDGER_FIELD_NUMBER: _ClassVar[int]
    AMOUNT_FIELD_NUMBER: _ClassVar[int]
    DEBIT_GROUP_FIELD_NUMBER: _ClassVar[int]
    CREDIT_GROUP_FIELD_NUMBER: _ClassVar[int]
    id: bytes
    kind: _transfer_pb2.TransferKind
    debit_account: bytes
    credit_account: bytes
    ledger: int
    amount: _types_pb2.Uint128
    debit_group: int
    credit_group: int
    def __init__(self, id: _Optional[bytes] = ..., kind: _Optional[_Union[_transfer_pb2.TransferKind, str]] = ..., debit_account: _Optional[bytes] = ..., credit_account: _Optional[bytes] = ..., ledger: _Optional[int] = ..., amount: _Optional[_Union[_types_pb2.Uint128, _Mapping]] = ..., debit_group: _Optional[int] = ..., credit_group: _Optional[int] = ...) -> None: ...

class OpenChain(_message.Message):
    __slots__ = ("id", "group", "decider", "groups", "waits_for", "timestamp", "deadline", "age_ns", "position", "legs")
    ID_FIELD_NUMBER: _ClassVar[int]
    GROUP_FIELD_NUMBER: _ClassVar[int]
    DECIDER_FIELD_NUMBER: _ClassVar[int]
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    WAITS_FOR_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMP_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_FIELD_NUMBER: _ClassVar[int]
    AGE_NS_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    LEGS_FIELD_NUMBER: _ClassVar[int]
    id: bytes
    group: int
    decider: int
    groups: _containers.RepeatedScalarFieldContainer[int]
    waits_for: _containers.RepeatedScalarFieldContainer[int]
    timestamp: int
    deadline: int
    age_ns: int
    position: int
    legs: _containers.RepeatedCompositeFieldContainer[OpenLeg]
    def __init__(self, id: _Optional[bytes] = ..., group: _Optional[int] = ..., decider: _Optional[int] = ..., groups: _Optional[_Iterable[int]] = ..., waits_for: _Optional[_Iterable[int]] = ..., timestamp: _Optional[int] = ..., deadline: _Optional[int] = ..., age_ns: _Optional[int] = ..., position: _Optional[int] = ..., legs: _Optional[_Iterable[_Union[OpenLeg, _Mapping]]] = ...) -> None: ...

class ListOpenResponse(_message.Message):
    __slots__ = ("reservations", "next_page_token", "read_at", "chains")
    RESERVATIONS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    READ_AT_FIELD_NUMBER: _ClassVar[int]
    CHAINS_FIELD_NUMBER: _ClassVar[int]
    reservations: _containers.RepeatedCompositeFieldContainer[OpenReservation]
    next_page_token: str
    read_at: _containers.RepeatedCompositeFieldContainer[_types_pb2.ReadPoint]
    chains: _containers.RepeatedCompositeFieldContainer[OpenChain]
    def __init__(self, reservations: _Optional[_Iterable[_Union[OpenReservation, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., read_at: _Optional[_Iterable[_Union[_types_pb2.ReadPoint, _Mapping]]] = ..., chains: _Optional[_Iterable[_Union[OpenChain, _Mapping]]] = ...) -> None: ...

class AuditRequest(_message.Message):
    __slots__ = ("groups",)
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    groups: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, groups: _Optional[_Iterable[int]] = ...) -> None: ...

class LedgerTrialBalance(_message.Message):
    __slots__ = ("ledger", "accounts", "debits_posted", "credits_posted", "debits_reserved", "credits_reserved", "reservations_remaining")
    LEDGER_FIELD_NUMBER: _ClassVar[int]
    ACCOUNTS_FIELD_NUMBER: _ClassVar[int]
    DEBITS_POSTED_FIELD_NUMBER: _ClassVar[int]
    CREDITS_POSTED_FIELD_NUMBER: _ClassVar[int]
    DEBITS_RESERVED_FIELD_NUMBER: _ClassVar[int]
    CREDITS_RESERVED_FIELD_NUMBER: _ClassVar[int]
    RESERVATIONS_REMAINING_FIELD_NUMBER: _ClassVar[int]
    ledger: int
    accounts: int
    debits_posted: _types_pb2.Uint128
    credits_posted: _types_pb2.Uint128
    debits_reserved: _types_pb2.Uint128
    credits_reserved: _types_pb2.Uint128
    reservations_remaining: _types_pb2.Uint128
    def __init__(self, ledger: _Optional[int] = ..., accounts: _Optional[int] = ..., debits_posted: _Optional[_Union[_types_pb2.Uint128, _Mapping]] = ..., credits_posted: _Optional[_Union[_types_pb2.Uint128, _Mapping]] = ..., debits_reserved: _Optional[_Union[_types_pb2.Uint128, _Mapping]] = ..., credits_reserved: _Optional[_Union[_types_pb2.Uint128, _Mapping]] = ..., reservations_remaining: _Optional[_Union[_types_pb2.Uint128, _Mapping]] = ...) -> None: ...

class TransitBalance(_message.Message):
    __slots__ = ("peer_group", "ledger", "balance", "pending")
    PEER_GROUP_FIELD_NUMBER: _ClassVar[int]
    LEDGER_FIELD_NUMBER: _ClassVar[int]
    BALANCE_FIELD_NUMBER: _ClassVar[int]
    PENDING_FIELD_NUMBER: _ClassVar[int]
    peer_group: int
    ledger: int
    balance: _types_pb2.Int128
    pending: _types_pb2.Int128
    def __init__(self, peer_group: _Optional[int] = ..., ledger: _Optional[int] = ..., balance: _Optional[_Union[_types_pb2.Int128, _Mapping]] = ..., pending: _Optional[_Union[_types_pb2.Int128, _Mapping]] = ...) -> None: ...

class GroupAudit(_message.Message):
    __slots__ = ("read_at", "next_position", "trial_balances", "transit_balances", "state_hash", "balanced", "fault", "replica", "open_chains")
    READ_AT_FIELD_NUMBER: _ClassVar[int]
    NEXT_POSITION_FIELD_NUMBER: _ClassVar[int]
    TRIAL_BALANCES_FIELD_NUMBER: _ClassVar[int]
    TRANSIT_BALANCES_FIELD_NUMBER: _ClassVar[int]
    STATE_HASH_FIELD_NUMBER: _ClassVar[int]
    BALANCED_FIELD_NUMBER: _ClassVar[int]
    FAULT_FIELD_NUMBER: _ClassVar[int]
    REPLICA_FIELD_NUMBER: _ClassVar[int]
    OPEN_CHAINS_FIELD_NUMBER: _ClassVar[int]
    read_at: _types_pb2.ReadPoint
    next_position: int
    trial_balances: _containers.RepeatedCompositeFieldContainer[LedgerTrialBalance]
    transit_balances: _containers.RepeatedCompositeFieldContainer[TransitBalance]
    state_hash: bytes
    balanced: bool
    fault: _status_pb2.Status
    replica: str
    open_chains: int
    def __init__(self, read_at: _Optional[_Union[_types_pb2.ReadPoint, _Mapping]] = ..., next_position: _Optional[int] = ..., trial_balances: _Optional[_Iterable[_Union[LedgerTrialBalance, _Mapping]]] = ..., transit_balances: _Optional[_Iterable[_Union[TransitBalance, _Mapping]]] = ..., state_hash: _Optional[bytes] = ..., balanced: _Optional[bool] = ..., fault: _Optional[_Union[_status_pb2.Status, _Mapping]] = ..., replica: _Optional[str] = ..., open_chains: _Optional[int] = ...) -> None: ...

class AuditResponse(_message.Message):
    __slots__ = ("groups",)
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    groups: _containers.RepeatedCompositeFieldContainer[GroupAudit]
    def __init__(self, groups: _Optional[_Iterable[_Union[GroupAudit, _Mapping]]] = ...) -> None: ...

class TransferLeadershipRequest(_message.Message):
    __slots__ = ("group", "replica")
    GROUP_FIELD_NUMBER: _ClassVar[int]
    REPLICA_FIELD_NUMBER: _ClassVar[int]
    group: int
    replica: str
    def __init__(self, group: _Optional[int] = ..., replica: _Optional[str] = ...) -> None: ...

class TransferLeadershipResponse(_message.Message):
    __slots__ = ("leader",)
    LEADER_FIELD_NUMBER: _ClassVar[int]
    leader: str
    def __init__(self, leader: _Optional[str] = ...) -> None: ...

class ReportHeatRequest(_message.Message):
    __slots__ = ("groups", "accounts_per_group")
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    ACCOUNTS_PER_GROUP_FIELD_NUMBER: _ClassVar[int]
    groups: _containers.RepeatedScalarFieldContainer[int]
    accounts_per_group: int
    def __init__(self, groups: _Optional[_Iterable[int]] = ..., accounts_per_group: _Optional[int] = ...) -> None: ...

class HotAccount(_message.Message):
    __slots__ = ("account", "debits", "credits", "crossing", "missed_max", "share_percent", "transfers_per_s", "split_advised", "reason")
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    DEBITS_FIELD_NUMBER: _ClassVar[int]
    CREDITS_FIELD_NUMBER: _ClassVar[int]
    CROSSING_FIELD_NUMBER: _ClassVar[int]
    MISSED_MAX_FIELD_NUMBER: _ClassVar[int]
    SHARE_PERCENT_FIELD_NUMBER: _ClassVar[int]
    TRANSFERS_PER_S_FIELD_NUMBER: _ClassVar[int]
    SPLIT_ADVISED_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    account: bytes
    debits: int
    credits: int
    crossing: int
    missed_max: int
    share_percent: int
    transfers_per_s: int
    split_advised: bool
    reason: str
    def __init__(self, account: _Optional[bytes] = ..., debits: _Optional[int] = ..., credits: _Optional[int] = ..., crossing: _Optional[int] = ..., missed_max: _Optional[int] = ..., share_percent: _Optional[int] = ..., transfers_per_s: _Optional[int] = ..., split_advised: _Optional[bool] = ..., reason: _Optional[str] = ...) -> None: ...

class GroupHeat(_message.Message):
    __slots__ = ("group", "replica", "window_ns", "transfers", "crossing", "accounts", "fault")
    GROUP_FIELD_NUMBER: _ClassVar[int]
    REPLICA_FIELD_NUMBER: _ClassVar[int]
    WINDOW_NS_FIELD_NUMBER: _ClassVar[int]
    TRANSFERS_FIELD_NUMBER: _ClassVar[int]
    CROSSING_FIELD_NUMBER: _ClassVar[int]
    ACCOUNTS_FIELD_NUMBER: _ClassVar[int]
    FAULT_FIELD_NUMBER: _ClassVar[int]
    group: int
    replica: str
    window_ns: int
    transfers: int
    crossing: int
    accounts: _containers.RepeatedCompositeFieldContainer[HotAccount]
    fault: _status_pb2.Status
    def __init__(self, group: _Optional[int] = ..., replica: _Optional[str] = ..., window_ns: _Optional[int] = ..., transfers: _Optional[int] = ..., crossing: _Optional[int] = ..., accounts: _Optional[_Iterable[_Union[HotAccount, _Mapping]]] = ..., fault: _Optional[_Union[_status_pb2.Status, _Mapping]] = ...) -> None: ...

class ReportHeatResponse(_message.Message):
    __slots__ = ("groups",)
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    groups: _containers.RepeatedCompositeFieldContainer[GroupHeat]
    def __init__(self, groups: _Optional[_Iterable[_Union[GroupHeat, _Mapping]]] = ...) -> None: ...

class SplitAccountRequest(_message.Message):
    __slots__ = ("account", "buckets")
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    BUCKETS_FIELD_NUMBER: _ClassVar[int]
    account: bytes
    buckets: int
    def __init__(self, account: _Optional[bytes] = ..., buckets: _Optional[int] = ...) -> None: ...

class SplitAccountResponse(_message.Message):
    __slots__ = ("epoch", "home", "groups")
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    HOME_FIELD_NUMBER: _ClassVar[int]
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    home: int
    groups: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, epoch: _Optional[int] = ..., home: _Optional[int] = ..., groups: _Optional[_Iterable[int]] = ...) -> None: ...

class MergeAccountRequest(_message.Message):
    __slots__ = ("account",)
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    account: bytes
    def __init__(self, account: _Optional[bytes] = ...) -> None: ...

class MergeAccountResponse(_message.Message):
    __slots__ = ("home", "moved", "moves")
    HOME_FIELD_NUMBER: _ClassVar[int]
    MOVED_FIELD_NUMBER: _ClassVar[int]
    MOVES_FIELD_NUMBER: _ClassVar[int]
    home: int
    moved: _types_pb2.Uint128
    moves: int
    def __init__(self, home: _Optional[int] = ..., moved: _Optional[_Union[_types_pb2.Uint128, _Mapping]] = ..., moves: _Optional[int] = ...) -> None: ...
