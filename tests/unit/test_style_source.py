"""What STYLE asks of every source file and a machine can see."""

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
ROOMS: Final = ("engine", "router", "cli", "client/postingengine", "bench")
GENERATED: Final = ("client/postingengine/v1", "engine/peer/v1")
MODULE_LINES_MAX: Final = 500
MODULE_LINES_MEDIAN_MAX: Final = 275
FUNCTION_LINES_MAX: Final = 65
FUNCTION_LINES_MEDIAN_MAX: Final = 10
COMPILED_FUNCTION_LINES_MAX: Final = 150
DURATION_WORDS: Final = {"TIMEOUT", "DEADLINE", "PAUSE", "AGE", "INTERVAL", "OFF"}
UNITS: Final = {"S", "MS", "US", "NS", "DAYS"}
TEXT_SUFFIXES: Final = {".py", ".pyi", ".md", ".toml", ".yml", ".yaml", ".txt", ".in", ".proto", ""}
# A name with dots that ends in a public suffix, or any address with a scheme. RFC 2606 reserves the `example` names.
HOST_NAME: Final = re.compile(r"https?://|\b[a-z0-9-]+(\.[a-z0-9-]+)*\.(com|org|net|io|dev|cloud|corp|lan)\b", re.I)
MACHINE_PATH: Final = re.compile(r"(?<![\w.])/(root|home|work|Users)/")


def sources() -> list[Path]:
    written = (path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py")))
    return [path for path in written if not any(folder in path.as_posix() for folder in GENERATED)]


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def functions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def code_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Count the lines of the body, without its docstring."""
    body = function.body[1:] if ast.get_docstring(function) else function.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


@pytest.mark.parametrize("path", sources(), ids=name_of)
def test_a_module_fits_in_one_reading(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= MODULE_LINES_MAX


def test_the_median_module_is_short() -> None:
    assert median(len(path.read_text().splitlines()) for path in sources()) <= MODULE_LINES_MEDIAN_MAX


@pytest.mark.parametrize("path", sources(), ids=name_of)
def test_a_module_says_what_it_is_for(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text()))


@pytest.mark.parametrize("path", sources(), ids=name_of)
def test_a_function_fits_on_one_screen(path: Path) -> None:
    # A call within a compiled loop costs what it saves, so kernels are allowed longer functions.
    bound = COMPILED_FUNCTION_LINES_MAX if path.parent.name == "kernel" else FUNCTION_LINES_MAX
    long = {one.name: code_lines(one) for one in functions(ast.parse(path.read_text())) if code_lines(one) > bound}
    assert not long


def test_the_median_function_is_short() -> None:
    assert (
        median(code_lines(one) for path in sources() for one in functions(ast.parse(path.read_text())))
        <= FUNCTION_LINES_MEDIAN_MAX
    )


@pytest.mark.parametrize("path", sources(), ids=name_of)
def test_checks_survive_the_optimising_interpreter(path: Path) -> None:
    # `assert` vanishes under `python -O`; `engine.exit_codes.require` does not.
    assert not [node.lineno for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Assert)]


@pytest.mark.parametrize("path", sources(), ids=name_of)
def test_constants_are_final_and_durations_name_their_unit(path: Path) -> None:
    bare, unitless = [], []
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Assign) and is_number(node.value):
            bare += [one.id for one in node.targets if isinstance(one, ast.Name) and one.id.lstrip("_").isupper()]
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and is_number(node.value):
            words = set(node.target.id.upper().strip("_").split("_"))
            # A kernel's numbers are places in its arrays, not durations.
            if words & DURATION_WORDS and not words & UNITS and path.parent.name != "kernel":
                unitless.append(node.target.id)
    assert not bare, "annotate constants with Final"
    assert not unitless, "name the unit last: _s, _ms, _ns"


def is_number(node: ast.expr | None) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, int | float)


def tracked_texts() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if listed.returncode:
        pytest.skip("not a git work tree")
    paths = (ROOT / name for name in listed.stdout.decode().split("\0") if name)
    return [path for path in paths if path.is_file() and path.suffix in TEXT_SUFFIXES and path.name != "LICENSE"]


def test_no_file_names_a_host_or_a_place_on_a_machine() -> None:
    found = [
        f"{name_of(path)}:{number}: {line.strip()[:100]}"
        for path in tracked_texts()
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if path != Path(__file__) and (HOST_NAME.search(line) or MACHINE_PATH.search(line))
    ]
    assert not found, "\n".join(found)
