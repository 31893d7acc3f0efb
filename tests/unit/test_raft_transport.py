"""The peer port: who is let in, what is refused, and that records arrive as they left. Real sockets on the loopback."""

import asyncio
import ssl
import subprocess

import pytest
from crc32c import crc32c

from engine.exit_codes import EngineStopped, ExitCode
from engine.replication.transport.frames import (
    FRAME_BYTES_MAX,
    PREFIX,
    FrameRefused,
    decode_frame,
    encode_frame,
    split_records,
)
from engine.replication.transport.messages import Ack, Append, Ping
from engine.replication.transport.transport import Address, AsyncioTransport, PeerSecurity
from tests.peer_sides import Pair, Side, free_peer, until


def append_of(records: list[bytes]) -> Append:
    return Append(3, 1, 1, 1, [3] * len(records), [len(one) for one in records], [crc32c(one) for one in records])


@pytest.mark.parametrize("size", [1, 100, 40_000, 600_000])
async def test_records_arrive_as_they_left_whatever_their_size(size):
    records = [bytes([number]) * size for number in range(3)]
    one, other = Side("a"), Side("b")
    async with Pair(one, other) as pair:
        await pair.met()
        pair.ends["b"].send("a", append_of(records), records)
        pair.ends["b"].send("a", Ack(3, 9, False, True, False))
        pair.ends["b"].flush()
        await until(lambda: len(one.messages) == 2)
    assert one.messages[0] == ("b", append_of(records), b"".join(records))
    assert one.messages[1][1] == Ack(3, 9, False, True, False)


async def test_a_refused_peer_learns_why_and_both_log_one_sentence(caplog):
    one, other = Side("a", "it belongs to another cluster"), Side("b")
    async with Pair(one, other):
        await until(lambda: bool(other.refusals))
        await asyncio.sleep(0.2)
    assert set(other.refusals) == {"it belongs to another cluster"}
    assert one.peers == other.peers == []
    assert len([record for record in caplog.records if "it belongs to another cluster" in record.message]) == 2


async def attack(address: Address, data: bytes) -> bytes:
    """Send something to the port; return what comes back before it is closed."""
    reader, writer = await asyncio.open_connection(*address)
    writer.write(data)
    try:
        async with asyncio.timeout(30):
            return await reader.read()
    except ConnectionResetError:
        return b""
    finally:
        writer.close()


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"\x80\x04\x95" + bytes(200), "over the limit"),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "over the limit"),
        (PREFIX.pack(FRAME_BYTES_MAX + 1, 0, 10), "over the limit"),
        (PREFIX.pack(100_000, 0, 10), "over the limit"),  # allowed for a peer, not before the greeting
        (PREFIX.pack(20, 12345, 20) + bytes(20), "checksum does not fit"),
        (encode_frame(Ping()), "its first message was no hello"),
        (PREFIX.pack(3, crc32c(b"abc", 3), 3) + b"abc", "no message of this protocol"),
    ],
)
async def test_what_is_no_greeting_is_refused_in_one_sentence(caplog, data, sentence):
    one = Side("a")
    end = AsyncioTransport("a", {"a": free_peer(), "b": free_peer()})
    await end.start(one, one)
    await attack(end._bind, data)
    await end.stop()
    assert one.peers == []
    (told,) = [record.message for record in caplog.records]
    assert sentence in told
    assert "let nobody but this group's replicas" in told


async def test_a_silent_connection_is_closed(monkeypatch):
    monkeypatch.setattr("engine.replication.transport.transport.GREETING_S_MAX", 0.05)
    one = Side("a")
    end = AsyncioTransport("a", {"a": free_peer(), "b": free_peer()})
    await end.start(one, one)
    assert await attack(end._bind, b"") == b""
    await end.stop()


async def test_a_damaged_record_ends_the_connection_and_reaches_nobody(caplog):
    one, other = Side("a"), Side("b")
    async with Pair(one, other) as pair:
        await pair.met()
        pair.ends["b"].send("a", append_of([b"record"]), [b"rec0rd"])
        pair.ends["b"].flush()
        await until(lambda: "was damaged on the way" in caplog.text and "check the network" in caplog.text)
        assert one.messages == []
        await pair.met()  # and they meet again


async def test_a_peer_that_is_restarted_is_met_again():
    one, other = Side("a"), Side("b")
    async with Pair(one, other) as pair:
        await pair.met()
        await pair.ends["b"].stop()
        await until(lambda: one.peers == [])
        again = AsyncioTransport("b", pair.ends["b"]._addresses)
        await again.start(other, other)
        pair.ends["b"] = again
        await until(lambda: one.peers == ["b"])


async def test_a_port_in_use_is_named():
    one = Side("a")
    end = AsyncioTransport("a", {"a": free_peer()})
    await end.start(one, one)
    with pytest.raises(EngineStopped) as stopped:
        await AsyncioTransport("a", {"a": end._bind}).start(one, one)
    assert stopped.value.code is ExitCode.ADDRESS_IN_USE
    await end.stop()


@pytest.mark.parametrize("position", range(0, 60, 3))
def test_a_frame_with_any_byte_flipped_is_refused_or_its_record_is(position):
    message = append_of([b"some record"])
    frame = bytearray(encode_frame(message, [b"some record"]) + b"some record")
    frame[position % len(frame)] ^= 0x10
    with pytest.raises(FrameRefused):
        split_records(*decode_frame(bytes(frame)))


# TLS


def certificate(folder, name: str) -> tuple[str, str]:
    """A self-signed certificate and key for a replica, made by the openssl tool."""
    key, cert = folder / f"{name}.key", folder / f"{name}.crt"
    asked = f"req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN={name}"
    subject = f"subjectAltName=DNS:{name},IP:127.0.0.1"
    command = ["openssl", *asked.split(), "-addext", subject, "-keyout", str(key), "-out", str(cert)]
    subprocess.run(command, check=True, capture_output=True)
    return str(cert), str(key)


def security(own: tuple[str, str], trusted: list[tuple[str, str]]) -> PeerSecurity:
    """Both ends show a certificate; its DNS name is the replica's."""
    contexts = []
    for purpose in (ssl.Purpose.CLIENT_AUTH, ssl.Purpose.SERVER_AUTH):
        context = ssl.create_default_context(purpose)
        context.load_cert_chain(*own)
        for cert, _ in trusted:
            context.load_verify_locations(cert)
        context.verify_mode = ssl.CERT_REQUIRED
        contexts.append(context)

    def authorise(shown, replica):
        return ("DNS", replica) in shown.get("subjectAltName", ())

    return PeerSecurity(contexts[0], contexts[1], authorise)


async def test_replicas_speak_mutual_tls(tmp_path):
    made = {name: certificate(tmp_path, name) for name in "ab"}
    both = list(made.values())
    one, other = Side("a"), Side("b")
    record = bytes(300_000)
    async with Pair(one, other, {name: security(made[name], both) for name in "ab"}) as pair:
        await pair.met()
        pair.ends["b"].send("a", append_of([record]), [record])
        pair.ends["b"].flush()
        await until(lambda: len(one.messages) == 1)
    assert one.messages[0][2] == record


async def test_a_certificate_of_another_replica_is_refused(tmp_path, caplog):
    made = {name: certificate(tmp_path, name) for name in ("a", "c")}
    both = list(made.values())
    one, other = Side("a"), Side("b")
    async with Pair(one, other, {"a": security(made["a"], both), "b": security(made["c"], both)}):
        await until(lambda: "does not stand for replica b" in caplog.text)
    assert one.peers == []


async def test_a_peer_that_does_not_read_is_not_writable_until_it_does():
    one, other = Side("a"), Side("b")
    drained: list[str] = []
    other.drained = drained.append
    record = bytes(1 << 20)
    async with Pair(one, other) as pair:
        await pair.met()
        held = next(iter(pair.ends["a"]._connections.values()))
        held._socket.pause_reading()
        for _ in range(24):
            pair.ends["b"].send("a", append_of([record]), [record])
            pair.ends["b"].flush()
        assert not pair.ends["b"].writable("a")
        held._socket.resume_reading()
        await until(lambda: drained == ["a"])
        await until(lambda: len(one.messages) == 24)
        assert pair.ends["b"].writable("a")
