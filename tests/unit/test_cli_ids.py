"""Ids as people write them on the command line."""

import uuid

import pytest

from cli.ids import id_of_name, id_text, parse_id


def test_a_uuid_and_its_32_digits_are_the_same_id() -> None:
    text = "0191d5a0-7c3e-7b1a-9f00-0123456789ab"
    assert parse_id(text) == parse_id(text.replace("-", "").upper()) == uuid.UUID(text).bytes


def test_a_decimal_number_is_big_endian() -> None:
    assert parse_id("258") == bytes(14) + b"\x01\x02"


def test_an_id_that_was_written_reads_back() -> None:
    assert parse_id(id_text(parse_id("name:Assets:Cash"))) == parse_id("name:Assets:Cash")


def test_the_id_of_a_name_is_for_ever() -> None:
    # Pinned: accounts of past imports are found by it.
    assert id_text(id_of_name("Trading:USD")) == "d8ff8031-175a-8cc5-86a9-2b51269ac6c4"
    assert uuid.UUID(bytes=id_of_name("Trading:USD")).version == 8


@pytest.mark.parametrize("text", ["", "name:", "0", "0" * 32, "12x", "-1", str(1 << 128), "12345678-1234"])
def test_what_is_not_an_id_is_refused_in_one_sentence(text: str) -> None:
    with pytest.raises(ValueError, match="id"):
        parse_id(text)
