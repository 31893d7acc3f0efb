"""`cluster.yml`: addresses, bounds, security and the *initial* settings of a cluster, in one file (DESIGN §3).

The file names places and gives a new cluster its first settings. Whatever apply depends on lives in the log from then
on: a file that differs from it is reported (`settings_differences`), never obeyed. Every error is one sentence naming
the key, with exit code CONFIG_INVALID.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from enum import Enum
from pathlib import Path
from typing import Final

import msgspec

from engine.core.limits import GROUPS_MAX, LEDGERS_MAX, LOG_RECORD_BYTES_MAX, LOG_RECORD_BYTES_TARGET, SLOTS
from engine.core.settings import Ledger, Settings, SlotRange, group_of_slots
from engine.exit_codes import EngineStopped, ExitCode

CONFIG_BYTES_MAX: Final = 1 << 20
REPLICAS_MAX: Final = 9
ROUTERS_MAX: Final = 64
LEDGER_CODE_CHARACTERS_MAX: Final = 32
HOT_WINDOW_S_MAX: Final = 3600
LEDGER_SCALE_MAX: Final = 38
NAME_PATTERN: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
CLUSTER_ID_PATTERN: Final = re.compile(r"[0-9a-f]{32}")
PORT_MAX: Final = 65535
LOOPBACK: Final = "127.0.0.1"


class _Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A mapping of the file: an unknown key is an error, because a misspelt bound would silently not hold."""


def _bind_to_loopback(section: "ReplicaConfig | RouterConfig") -> None:
    if isinstance(section.metrics, int):
        msgspec.structs.force_setattr(section, "metrics", f"{LOOPBACK}:{section.metrics}")


class ReplicaConfig(_Section, frozen=True):
    """One replica of a group."""

    id: str
    """Its name within the group, for ever; one that lost its disk keeps it (`posting-engine replace`)."""
    peer: str
    """host:port on which the group's other replicas reach it."""
    grpc: str
    """host:port on which it serves the API."""
    folder: str
    """Its data folder; relative to the file's own folder."""
    link: str | None = None
    """host:port on which routers, and couriers of other groups, reach it for posts and steps; without it they use
    `grpc`, which costs all of them more."""
    metrics: str | int | None = None
    """host:port on which it tells Prometheus of itself, or a port of the loopback; without it nowhere."""

    def __post_init__(self) -> None:
        """Take a bare port for one of the loopback."""
        _bind_to_loopback(self)


class GroupConfig(_Section, frozen=True):
    """One shard group."""

    group: int
    replicas: tuple[ReplicaConfig, ...]
    slots: tuple[tuple[int, int], ...] = ()
    """Ranges (first, last), both included; when no group names any, all groups get equal shares."""


class RouterConfig(_Section, frozen=True):
    """One router."""

    grpc: str
    """host:port on which it serves the API."""
    metrics: str | int | None = None
    """As a replica's."""

    def __post_init__(self) -> None:
        """Take a bare port for one of the loopback."""
        _bind_to_loopback(self)


class LimitsConfig(_Section, frozen=True):
    """Bounds of one process. Each may differ between processes: apply never depends on them."""

    admission_queue_bytes_max: int = 64 << 20
    """Bytes of transfers that wait to be logged, over both lanes."""
    step_queue_bytes_max: int = 32 << 20
    """Bytes of steps of cross-group chains that wait to be logged; they go before all transfers."""
    queue_age_ms_max: int = 2000
    """A lane whose oldest waiting transfer is older admits no more."""
    live_batch_transfers_max: int = 256
    """Batches up to this many transfers take the live lane, before the bulk lane."""
    log_record_bytes_target: int = LOG_RECORD_BYTES_TARGET
    log_records_in_flight_max: int = 16
    """Log records proposed and not yet answered."""
    apply_group_records_max: int = 256
    """Log records applied, answered and saved together."""
    stream_batches_in_flight_max: int = 16
    """Batches of one StreamTransfers call that wait for their answers."""
    calls_max: int = 4096
    """Calls served at a time by one process."""
    read_deadline_ms_default: int = 5000
    """For reads whose caller set no deadline."""
    post_deadline_ms_default: int = 30_000
    """For posts whose caller set no deadline."""
    tick_ms: int = 100
    """How often a leader looks for due reservations."""
    courier_grace_ms: int = 2000
    """Chains over groups that are open for longer are driven on by leaders: a router that lives is faster, even under
    load, and then every chain that both drive costs twice."""
    drain_ms_max: int = 10_000
    """How long SIGTERM waits for what was admitted."""
    segment_bytes: int = 64 << 20
    """Size of one segment of the replicated log."""
    log_retained_bytes_min: int = 64 << 20
    """The log keeps so much below what the store has synced, for replicas that come back soon."""
    log_retained_bytes_max: int = 1 << 30
    """A replica that lacks more than this gets a snapshot instead of records."""
    store_map_bytes_max: int = 64 << 30
    """Upper bound of the store's LMDB map (address space, not disk)."""
    disk_free_bytes_min: int = 256 << 20
    """Below this much free space writes are refused while reads go on."""


class HotAccountsPolicy(Enum):
    """What to do about accounts that take much of a group's work."""

    OFF = "off"
    """Do not even measure it."""
    ADVISE = "advise"
    """Measure it, and say which accounts to split and why."""
    AUTOMATIC = "automatic"
    """Split them."""


class HotAccountsConfig(_Section, frozen=True):
    """Which accounts count as hot, and what is done about them. Apply never depends on it."""

    policy: HotAccountsPolicy | bool = HotAccountsPolicy.ADVISE
    """A bare `off` is read as OFF, though YAML takes it for a truth value."""
    window_s: int = 10
    """Heat is told of windows of this length."""
    share_percent_min: int = 10
    """A hot account takes part in at least this share of its group's transfers,"""
    transfers_per_s_min: int = 1000
    """and in at least so many a second,"""
    windows_min: int = 3
    """for at least so many windows on end."""
    accounts_max: int = 16
    """At most so many accounts of a group, the hottest, are to be split; of the cluster, by `automatic`."""

    def __post_init__(self) -> None:
        """Read YAML's false as OFF."""
        if self.policy is True:
            raise ValueError("policy is off, advise or automatic")
        if self.policy is False:
            msgspec.structs.force_setattr(self, "policy", HotAccountsPolicy.OFF)


class ClusterConfig(_Section, frozen=True):
    """The whole file, checked."""

    cluster_id: str
    """32 hexadecimal digits; guards data folders and peers against mixing clusters."""
    hash_seed: int
    """u64; seeds placement and every hash table of ids. Initial setting."""
    ledgers: tuple[Ledger, ...]
    """Initial setting."""
    groups: tuple[GroupConfig, ...]
    routers: tuple[RouterConfig, ...] = ()
    limits: LimitsConfig = LimitsConfig()
    hot_accounts: HotAccountsConfig = HotAccountsConfig()
    tls: object = None
    """Kept for mTLS on every port. No port speaks it yet, so a section is refused: whoever writes one relies on it."""


def load_config(path: Path) -> ClusterConfig:
    """Read and check a file; raises `EngineStopped(CONFIG_INVALID)`. Relative folders become absolute."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise _invalid(f"{path} cannot be read ({error.strerror}); name the cluster's file") from error
    if len(data) > CONFIG_BYTES_MAX:
        raise _invalid(f"{path} has {len(data)} bytes, more than {CONFIG_BYTES_MAX}; is it the right file?")
    return parse_config(data, folder=path.resolve().parent, name=str(path))


def parse_config(data: bytes, *, folder: Path, name: str = "cluster.yml") -> ClusterConfig:
    """Check the bytes of a file whose relative data folders are below `folder`; raises `EngineStopped`."""
    try:
        config = msgspec.yaml.decode(data, type=ClusterConfig)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _invalid(f"{name}: {_sentence(error)}; correct that key") from error
    problem = next(_problems(config), None)
    if problem is not None:
        raise _invalid(f"{name}: {problem}")
    return _with_absolute_folders(config, folder)


def initial_settings(config: ClusterConfig) -> Settings:
    """Return the settings that the genesis record of each group logs."""
    return Settings(
        cluster_id=config.cluster_id,
        hash_seed=config.hash_seed,
        ledgers=config.ledgers,
        slots=slot_ranges(config.groups),
    )


def settings_differences(config: ClusterConfig, logged: Settings) -> list[str]:
    """Name each initial setting of the file that differs from the logged one: to be reported, never obeyed."""
    wanted = initial_settings(config)
    pairs = (
        ("cluster_id", wanted.cluster_id, logged.cluster_id),
        ("hash_seed", wanted.hash_seed, logged.hash_seed),
        ("ledgers", wanted.ledgers, logged.ledgers),
        ("slots", wanted.slots, logged.slots),
    )
    return [
        f"{key} in the file differs from the cluster's logged setting, which holds"
        for key, in_file, in_log in pairs
        if in_file != in_log
    ]


def slot_ranges(groups: tuple[GroupConfig, ...]) -> tuple[SlotRange, ...]:
    """Return the ranges that the groups name, or equal shares in the order of group numbers."""
    if any(group.slots for group in groups):
        return tuple(SlotRange(group.group, first, last) for group in groups for first, last in group.slots)
    numbers = sorted(group.group for group in groups)
    bounds = [SLOTS * share // len(numbers) for share in range(len(numbers) + 1)]
    return tuple(SlotRange(number, bounds[i], bounds[i + 1] - 1) for i, number in enumerate(numbers))


def group_config(config: ClusterConfig, group: int) -> GroupConfig:
    """Return one group's section; raises `EngineStopped(CONFIG_INVALID)`."""
    for section in config.groups:
        if section.group == group:
            return section
    known = ", ".join(str(section.group) for section in config.groups)
    raise _invalid(f"cluster.yml has no group {group}; its groups are {known}")


def replica_config(config: ClusterConfig, group: int, replica: str) -> ReplicaConfig:
    """Return one replica's section; raises `EngineStopped(CONFIG_INVALID)`."""
    replicas = group_config(config, group).replicas
    for section in replicas:
        if section.id == replica:
            return section
    known = ", ".join(section.id for section in replicas)
    raise _invalid(f"cluster.yml has no replica {replica} in group {group}; its replicas are {known}")


def metrics_address(section: ReplicaConfig | RouterConfig) -> str | None:
    """Return host:port at which a process serves its metrics; None: nowhere."""
    return None if section.metrics is None else str(section.metrics)


def split_address(address: str) -> tuple[str, int]:
    """Split host:port (an IPv6 host in brackets); raises ValueError."""
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port.isdecimal() or not 0 < int(port) <= PORT_MAX:
        raise ValueError(f"{address!r} is not host:port")
    return host.removeprefix("[").removesuffix("]"), int(port)


def _invalid(message: str) -> EngineStopped:
    return EngineStopped(ExitCode.CONFIG_INVALID, message)


def _sentence(error: Exception) -> str:
    """Turn a decoder's message into the first half of a sentence: one line, no full stop."""
    return " ".join(str(error).split()).rstrip(".")


def _problems(config: ClusterConfig) -> Iterator[str]:
    """Yield what the types alone cannot see."""
    if not CLUSTER_ID_PATTERN.fullmatch(config.cluster_id):
        yield "cluster_id must be 32 lower-case hexadecimal digits"
    if not 0 <= config.hash_seed < 1 << 64:
        yield "hash_seed must be a number from 0 to 2^64-1"
    if config.tls is not None:
        yield "tls is not spoken by this release; take the section out, and keep every port on a private network"
    yield from _ledger_problems(config.ledgers)
    yield from _group_problems(config.groups)
    yield from _address_problems(config)
    yield from _limit_problems(config.limits)
    yield from _hot_accounts_problems(config.hot_accounts)


def _ledger_problems(ledgers: tuple[Ledger, ...]) -> Iterator[str]:
    if not 1 <= len(ledgers) <= LEDGERS_MAX:
        yield f"ledgers must list 1 to {LEDGERS_MAX} ledgers"
    for ledger in ledgers:
        if not 1 <= ledger.ledger < 1 << 32:
            yield f"ledgers: ledger must be a number from 1 to 2^32-1, not {ledger.ledger}"
        if not 0 <= ledger.scale <= LEDGER_SCALE_MAX:
            yield f"ledgers: scale of ledger {ledger.ledger} must be from 0 to {LEDGER_SCALE_MAX}"
        if not 1 <= len(ledger.code) <= LEDGER_CODE_CHARACTERS_MAX:
            yield f"ledgers: code of ledger {ledger.ledger} must have 1 to {LEDGER_CODE_CHARACTERS_MAX} characters"
    yield from _repeated("ledgers: ledger", (ledger.ledger for ledger in ledgers))
    yield from _repeated("ledgers: code", (ledger.code for ledger in ledgers))


def _group_problems(groups: tuple[GroupConfig, ...]) -> Iterator[str]:
    if sorted(group.group for group in groups) != list(range(len(groups))) or not groups or len(groups) > GROUPS_MAX:
        yield f"groups must be numbered 0, 1, 2 and so on, at most {GROUPS_MAX}"
        return
    for group in groups:
        if not 1 <= len(group.replicas) <= REPLICAS_MAX:
            yield f"group {group.group}: replicas must list 1 to {REPLICAS_MAX} replicas"
        for replica in group.replicas:
            if not NAME_PATTERN.fullmatch(replica.id):
                yield f"group {group.group}: replica id {replica.id!r} must be letters, digits, '-', '_' or '.'"
        yield from _repeated(f"group {group.group}: replica id", (replica.id for replica in group.replicas))
    try:
        group_of_slots(Settings(cluster_id="", hash_seed=0, ledgers=(), slots=slot_ranges(groups)))
    except ValueError as error:
        yield f"slots: {error}"


def _address_problems(config: ClusterConfig) -> Iterator[str]:
    if len(config.routers) > ROUTERS_MAX:
        yield f"routers must list at most {ROUTERS_MAX} routers"
    addresses = [address for router in config.routers for address in (router.grpc, metrics_address(router)) if address]
    for group in config.groups:
        for replica in group.replicas:
            named = (replica.peer, replica.grpc, replica.link, metrics_address(replica))
            addresses += [address for address in named if address is not None]
    for address in addresses:
        try:
            split_address(address)
        except ValueError as error:
            yield f"address {error}"
    yield from _repeated("address", addresses)
    yield from _repeated("data folder", (replica.folder for group in config.groups for replica in group.replicas))


def _limit_problems(limits: LimitsConfig) -> Iterator[str]:
    for key in limits.__struct_fields__:
        if getattr(limits, key) < 1:
            yield f"limits: {key} must be at least 1"
    for key in ("admission_queue_bytes_max", "step_queue_bytes_max", "segment_bytes", "store_map_bytes_max"):
        if getattr(limits, key) < LOG_RECORD_BYTES_MAX:
            yield f"limits: {key} must be at least {LOG_RECORD_BYTES_MAX}, the size of the largest log record"
    if limits.log_retained_bytes_max < limits.log_retained_bytes_min:
        yield "limits: log_retained_bytes_max must be at least log_retained_bytes_min"


def _hot_accounts_problems(hot: HotAccountsConfig) -> Iterator[str]:
    for key in ("window_s", "share_percent_min", "transfers_per_s_min", "windows_min", "accounts_max"):
        if getattr(hot, key) < 1:
            yield f"hot_accounts: {key} must be at least 1"
    if hot.share_percent_min > 100:
        yield "hot_accounts: share_percent_min must be at most 100"
    if hot.window_s > HOT_WINDOW_S_MAX:
        yield f"hot_accounts: window_s must be at most {HOT_WINDOW_S_MAX}"


def _repeated(what: str, values: Iterable[object]) -> Iterator[str]:
    for value, count in Counter(values).items():
        if count > 1:
            yield f"{what} {value} stands there {count} times"


def _with_absolute_folders(config: ClusterConfig, folder: Path) -> ClusterConfig:
    groups = tuple(
        msgspec.structs.replace(
            group,
            replicas=tuple(
                msgspec.structs.replace(replica, folder=str(folder / replica.folder)) for replica in group.replicas
            ),
        )
        for group in config.groups
    )
    return msgspec.structs.replace(config, groups=groups)
