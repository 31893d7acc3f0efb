"""ARCHITECTURE.md names each invariant, and for each a test that exists."""

import ast
import re
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
PAGE: Final = (ROOT / "ARCHITECTURE.md").read_text()
ROW: Final = re.compile(r"^\| (I\d+) \| (.+) \| (.+) \|$", re.MULTILINE)
TEST: Final = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
LINES_MAX: Final = 120
WITHOUT_TEST: Final = {"I13"}
"""What is not built yet."""


def test_the_invariants_are_numbered_without_gaps() -> None:
    assert [row[0] for row in ROW.findall(PAGE)] == [f"I{number}" for number in range(1, 15)]


def test_each_invariant_names_tests_that_exist() -> None:
    named: list[tuple[str, str]] = []
    for invariant, _, tests in ROW.findall(PAGE):
        found = TEST.findall(tests)
        assert found or tests == "the same" or invariant in WITHOUT_TEST, invariant
        named += found
    for path, name in named:
        tree = ast.parse((ROOT / path).read_text())
        assert name in {one.name for one in ast.walk(tree) if hasattr(one, "name")}, f"{path}::{name}"


def test_the_page_stays_short_and_its_links_lead_somewhere() -> None:
    assert len(PAGE.splitlines()) <= LINES_MAX
    for page in (ROOT / "ARCHITECTURE.md", ROOT / "README.md", *(ROOT / "docs").rglob("*.md")):
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
