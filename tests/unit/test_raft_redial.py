"""A peer is dialled until there is one connection, and then no more: whatever a slow loop makes of a dial."""

import asyncio
from collections.abc import Callable

import pytest

from engine.replication.transport import transport
from engine.replication.transport.connection import Connection
from tests.passing_time import let_pass
from tests.peer_sides import Pair, Side

STEADY_S = 1.0


class CountingSide(Side):
    """Counts how often a peer came."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.came = 0

    def connected(self, peer: str) -> None:
        super().connected(peer)
        self.came += 1


@pytest.fixture
def slow_first_dial(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the loop stand still once, just after the first dialled socket has opened, past the dial's deadline."""
    monkeypatch.setattr(transport, "DIAL_S_MAX", 10.0)  # later dials have the time that they need
    made: Callable[[Connection, asyncio.BaseTransport], None] = Connection.connection_made
    stood_still: list[bool] = []

    def slow(connection: Connection, socket: asyncio.BaseTransport) -> None:
        made(connection, socket)
        if connection.dialled is not None and not stood_still:
            stood_still.append(True)
            let_pass(11)

    monkeypatch.setattr(Connection, "connection_made", slow)


async def test_a_dial_that_was_given_up_after_its_socket_opened_leaves_one_steady_connection(
    slow_first_dial: None,
) -> None:
    one, other = CountingSide("a"), CountingSide("b")
    async with Pair(one, other) as pair:
        await pair.met()
        await asyncio.sleep(STEADY_S)
        assert one.peers == ["b"]
        assert other.peers == ["a"]
        assert one.came <= 3
        assert other.came <= 3


async def test_a_connection_lost_before_its_dial_returned_is_dialled_again(monkeypatch: pytest.MonkeyPatch) -> None:
    made, lost = Connection.connection_made, list[bool]()

    def lose_the_first(connection: Connection, socket: asyncio.BaseTransport) -> None:
        made(connection, socket)
        if connection.dialled is not None and not lost:
            lost.append(True)
            connection.abort()

    monkeypatch.setattr(Connection, "connection_made", lose_the_first)
    async with Pair(CountingSide("a"), CountingSide("b")) as pair:
        await pair.met()
        assert lost


async def test_a_connection_that_is_replaced_is_not_dialled_again() -> None:
    one, other = CountingSide("a"), CountingSide("b")
    async with Pair(one, other) as pair:
        await pair.met()
        before = pair.ends["b"]._connections["a"]
        await asyncio.get_running_loop().create_connection(
            lambda: Connection(pair.ends["b"], "a"), *pair.ends["b"]._addresses["a"]
        )
        await asyncio.sleep(STEADY_S)
        assert one.peers == ["b"]
        assert other.peers == ["a"]
        assert pair.ends["b"]._connections["a"] is not before
        assert other.came <= 3
