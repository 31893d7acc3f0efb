"""Making a new `cluster.yml`: free ports on this machine, a cluster id of its own, the ledgers asked for."""

import random
import re
import secrets
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from engine.config import ClusterConfig, load_config, parse_config
from engine.core.settings import Ledger
from engine.exit_codes import EngineStopped, ExitCode

FILE_NAME: Final = "cluster.yml"
LOOPBACK: Final = "127.0.0.1"
PORT_FIRST: Final = 20_000
PORT_LAST: Final = 30_000
"""Below the range that kernels draw outgoing ports from: the port of a killed process stays free for its successor."""
PORT_TRIES_MAX: Final = 1000
REPLICA_NAMES: Final = "abcdefghi"
DEFAULT_LEDGERS: Final = (Ledger(1, "EUR", 2), Ledger(2, "USD", 2))
LEDGER_PATTERN: Final = re.compile(r"([^:]{1,32}):([0-9]{1,2})")

_HEAD: Final = """\
# A cluster on one machine, written by `posting-engine init`. The initial settings (cluster_id, hash_seed, ledgers) go
# into the log when the cluster first starts; from then on only the log counts, and a file that differs is reported.
cluster_id: "{cluster_id}"
hash_seed: {hash_seed}

# Currencies and assets. scale: decimal places of one whole unit.
ledgers:
{ledgers}

# Shard groups: accounts are shared among them in equal parts. Each replica: its name, its address for the group's other
# replicas, the address of its API, the one on which routers bring it posts, the one on which it tells Prometheus of
# itself (`GET /metrics`), its data folder.
groups:
{groups}

# Routers serve the API for the whole cluster; all of them serve the same.
routers:
{routers}
"""


class Shape(NamedTuple):
    """How large a new cluster is."""

    groups: int
    replicas: int
    """Of each group."""
    routers: int = 1
    port: int | None = None
    """Of the first router; None: any that is free."""


def new_cluster_text(ledgers: Sequence[Ledger], shape: Shape) -> str:
    """Write the text of a new cluster on free ports of this machine."""
    count = 4 * shape.groups * shape.replicas + 2 * shape.routers
    addresses = iter([f"{LOOPBACK}:{port}" for port in free_ports(count, shape.port)])
    wanted = iter([] if shape.port is None else [f"{LOOPBACK}:{shape.port}"])
    return _HEAD.format(
        cluster_id=secrets.token_hex(16),
        hash_seed=secrets.randbits(64),
        ledgers="\n".join(_ledger_line(ledger) for ledger in ledgers),
        groups="\n".join(_group_lines(group, shape.replicas, addresses) for group in range(shape.groups)),
        routers="\n".join(_router_line(next(wanted, None), addresses) for _ in range(shape.routers)),
    )


def write_new_cluster(folder: Path, ledgers: Sequence[Ledger], shape: Shape) -> ClusterConfig:
    """Write `cluster.yml` into a folder (made if missing); raises `EngineStopped` rather than overwrite one."""
    path = folder / FILE_NAME
    text = new_cluster_text(ledgers, shape)
    config = parse_config(text.encode(), folder=folder.resolve(), name=str(path))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with path.open("x") as file:
            file.write(text)
    except FileExistsError as error:
        raise EngineStopped(
            ExitCode.CONFIG_INVALID, f"{path} exists: start it with 'up', or name another folder"
        ) from error
    except OSError as error:
        raise EngineStopped(ExitCode.CONFIG_INVALID, f"{path} cannot be written ({error.strerror})") from error
    return config


def open_or_make(folder: Path, ledgers: Sequence[Ledger], shape: Shape) -> ClusterConfig:
    """Load the folder's `cluster.yml`, or write a new one."""
    path = folder / FILE_NAME
    return load_config(path) if path.exists() else write_new_cluster(folder, ledgers, shape)


def parse_ledgers(texts: Sequence[str]) -> tuple[Ledger, ...]:
    """Read `CODE:SCALE` texts as ledgers numbered from 1; raises ValueError with one sentence."""
    ledgers = []
    for number, text in enumerate(texts, 1):
        matched = LEDGER_PATTERN.fullmatch(text)
        if matched is None:
            raise ValueError(f"{text!r} is not CODE:SCALE, such as EUR:2")
        ledgers.append(Ledger(number, matched[1], int(matched[2])))
    return tuple(ledgers)


def free_ports(count: int, taken: int | None = None) -> list[int]:
    """Return ports in a row, `taken` not among them, that nobody listens on at this moment; raises `EngineStopped`
    where there are not enough.

    In a row, so that another cluster, made while a process of this one is down, would have to fit into the gap.
    """
    # Not the ids' kind of randomness: it only keeps clusters that start together from trying the same ports.
    draw = random.SystemRandom()
    for _ in range(PORT_TRIES_MAX if count <= PORT_LAST - PORT_FIRST else 0):
        first = draw.randint(PORT_FIRST, PORT_LAST - count)
        row = range(first, first + count)
        if taken not in row and all(map(is_free, row)):
            return list(row)
    raise EngineStopped(ExitCode.ADDRESS_IN_USE, f"no {count} ports in a row from {PORT_FIRST} to {PORT_LAST} are free")


def is_free(port: int) -> bool:
    """Whether something may listen there at this moment."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True


def _ledger_line(ledger: Ledger) -> str:
    code = ledger.code.replace("\\", "\\\\").replace('"', '\\"')
    return f'  - {{ledger: {ledger.ledger}, code: "{code}", scale: {ledger.scale}}}'


def _group_lines(group: int, replicas: int, addresses: Iterator[str]) -> str:
    names = REPLICA_NAMES[:replicas]
    return "\n".join((f"  - group: {group}\n    replicas:", *(_replica_line(group, name, addresses) for name in names)))


def _replica_line(group: int, name: str, addresses: Iterator[str]) -> str:
    keys = ", ".join(f'{key}: "{next(addresses)}"' for key in ("peer", "grpc", "link", "metrics"))
    return f"      - {{id: {name}, {keys}, folder: group-{group}/{name}}}"


def _router_line(wanted: str | None, addresses: Iterator[str]) -> str:
    return f'  - {{grpc: "{wanted or next(addresses)}", metrics: "{next(addresses)}"}}'
