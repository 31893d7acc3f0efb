"""A new cluster.yml."""

import socket
from pathlib import Path

import pytest

from cli import cluster_file
from cli.cluster_file import (
    DEFAULT_LEDGERS,
    PORT_FIRST,
    PORT_LAST,
    Shape,
    free_ports,
    open_or_make,
    parse_ledgers,
    write_new_cluster,
)
from engine.config import load_config
from engine.core.settings import Ledger
from engine.exit_codes import EngineStopped, ExitCode
from tests.ports import LOOPBACK, free_port


def test_what_is_written_is_what_a_node_reads(tmp_path: Path) -> None:
    written = write_new_cluster(tmp_path / "new", (Ledger(1, 'A"\\é', 7),), Shape(groups=2, replicas=3, routers=2))
    assert load_config(tmp_path / "new" / "cluster.yml") == written
    assert [group.group for group in written.groups] == [0, 1]
    assert [replica.id for replica in written.groups[1].replicas] == ["a", "b", "c"]
    assert len(written.routers) == 2
    assert written.ledgers[0].code == 'A"\\é'


def test_two_clusters_have_ids_of_their_own(tmp_path: Path) -> None:
    one, two = (write_new_cluster(tmp_path / name, DEFAULT_LEDGERS, Shape(1, 1)) for name in "xy")
    assert one.cluster_id != two.cluster_id
    assert one.hash_seed != two.hash_seed


def test_an_existing_file_is_used_and_never_overwritten(tmp_path: Path) -> None:
    written = write_new_cluster(tmp_path, DEFAULT_LEDGERS, Shape(1, 1))
    assert open_or_make(tmp_path, DEFAULT_LEDGERS, Shape(1, 3)) == written
    with pytest.raises(EngineStopped, match="exists") as refused:
        write_new_cluster(tmp_path, DEFAULT_LEDGERS, Shape(1, 1))
    assert refused.value.code == ExitCode.CONFIG_INVALID


def test_the_first_router_has_the_port_that_is_wanted_and_nobody_else_does(tmp_path: Path) -> None:
    written = write_new_cluster(tmp_path, DEFAULT_LEDGERS, Shape(1, 3, routers=2, port=7000))
    assert written.routers[0].grpc == "127.0.0.1:7000"
    assert (tmp_path / "cluster.yml").read_text().count(":7000") == 1


def test_ports_are_a_row_in_the_range_without_the_one_that_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    ports = free_ports(50)
    assert ports == list(range(ports[0], ports[0] + 50))
    assert ports[0] >= PORT_FIRST and ports[-1] < PORT_LAST
    monkeypatch.setattr(cluster_file, "PORT_LAST", PORT_FIRST + 3)
    monkeypatch.setattr(cluster_file, "is_free", lambda port: True)  # other tests may listen there
    assert {tuple(free_ports(2, PORT_FIRST)) for _ in range(50)} == {(PORT_FIRST + 1, PORT_FIRST + 2)}
    assert {tuple(free_ports(2)) for _ in range(50)} == {(PORT_FIRST + at, PORT_FIRST + at + 1) for at in (0, 1)}


def test_a_port_that_somebody_listens_on_is_not_given_out(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as listener:
        port = free_port()
        listener.bind((LOOPBACK, port))
        listener.listen()
        monkeypatch.setattr(cluster_file, "PORT_FIRST", port)
        monkeypatch.setattr(cluster_file, "PORT_LAST", port + 1)
        with pytest.raises(EngineStopped, match=f"no 1 ports in a row from {port} to {port + 1} are free") as refused:
            free_ports(1)
        assert refused.value.code == ExitCode.ADDRESS_IN_USE
    assert free_ports(1) == [port]


def test_more_ports_than_there_are_is_refused() -> None:
    with pytest.raises(EngineStopped, match="no 10001 ports in a row"):
        free_ports(PORT_LAST - PORT_FIRST + 1)


def test_ledgers_are_numbered_from_one() -> None:
    assert parse_ledgers(["EUR:2", "BTC:8"]) == (Ledger(1, "EUR", 2), Ledger(2, "BTC", 8))


@pytest.mark.parametrize("text", ["EUR", "EUR:", ":2", "EUR:x", "EUR:2:2", "E" * 33 + ":2"])
def test_what_is_not_a_ledger_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="CODE:SCALE"):
        parse_ledgers([text])
