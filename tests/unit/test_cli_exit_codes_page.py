"""The operators' page of exit codes agrees with the code."""

import re
from pathlib import Path
from typing import Final, NamedTuple

from cli.children import STAYS_DOWN
from cli.meanings import member_sentences
from engine.exit_codes import ExitCode

PAGE: Final = Path(__file__).parents[2] / "docs" / "operating" / "exit-codes.md"
ROW: Final = re.compile(r"\| (\d+) \| (\w+) \| (.+?) \| (.+?) \| (.+?) \|")


class Row(NamedTuple):
    number: int
    name: str
    meaning: str
    what_to_do: str
    up: str


def rows() -> list[Row]:
    return [Row(int(found[1]), *found.groups()[1:]) for found in ROW.finditer(PAGE.read_text())]


def test_every_code_has_its_row_and_no_other_has_one() -> None:
    assert [(row.number, row.name) for row in rows()] == [(int(code), code.name) for code in ExitCode]


def test_the_meanings_are_those_of_the_code() -> None:
    sentences = member_sentences(ExitCode)
    assert {row.name: row.meaning for row in rows() if row.name in sentences} == sentences


def test_the_page_says_which_processes_stay_down() -> None:
    assert {row.number for row in rows() if row.up == "stays down"} == set(map(int, STAYS_DOWN))
