"""Ids: what may be given, and the order of new ones."""

import os
import threading
import time
import uuid

import pytest

from postingengine import as_id, new_id
from postingengine.ids import IdSource


def test_bytes_uuids_and_ints_name_the_same_id() -> None:
    value = uuid.uuid4()
    assert as_id(value) == as_id(value.bytes) == as_id(value.int) == value.bytes


@pytest.mark.parametrize("value", [b"", bytes(15), bytes(17), -1, 1 << 128])
def test_an_id_of_another_size_is_refused_by_name(value: bytes | int) -> None:
    with pytest.raises(ValueError, match="debit"):
        as_id(value, "debit")


@pytest.mark.parametrize(("value", "kind"), [("0" * 16, "str"), (True, "bool"), (1.0, "float"), (None, "NoneType")])
def test_text_booleans_and_floats_are_no_ids(value: object, kind: str) -> None:
    with pytest.raises(TypeError, match=f"credit is a {kind}"):
        as_id(value, "credit")  # type: ignore[arg-type]


def test_new_ids_ascend_bytewise_and_never_repeat() -> None:
    ids = [new_id().bytes for _ in range(20_000)]
    assert ids == sorted(set(ids))


def test_new_ids_are_uuids_of_version_7_with_the_time_in_front() -> None:
    before, made, after = time.time_ns() // 1_000_000, new_id(), time.time_ns() // 1_000_000
    assert (made.version, made.variant) == (7, uuid.RFC_4122)
    assert before <= made.int >> 80 <= after + 1


def test_ids_ascend_when_the_clock_is_set_back(monkeypatch: pytest.MonkeyPatch) -> None:
    source = IdSource()
    first = source.new()
    monkeypatch.setattr(time, "time_ns", lambda: 1)
    assert first < source.new() < source.new()


def test_threads_never_get_the_same_id() -> None:
    source, made = IdSource(), list[list[bytes]]()
    threads = [threading.Thread(target=lambda: made.append([source.new() for _ in range(3000)])) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({one for ids in made for one in ids}) == 12_000
    assert all(ids == sorted(ids) for ids in made)


def test_a_forked_child_does_not_count_on_where_its_parent_does(monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time_ns()
    monkeypatch.setattr(time, "time_ns", lambda: now)
    new_id()
    receive, send = os.pipe()
    child = os.fork()
    if not child:
        os.write(send, new_id().bytes)
        os._exit(0)
    os.waitpid(child, 0)
    of_child, of_parent = uuid.UUID(bytes=os.read(receive, 16)), new_id()
    os.close(receive)
    os.close(send)
    assert abs(of_child.int - of_parent.int) > 1 << 20
