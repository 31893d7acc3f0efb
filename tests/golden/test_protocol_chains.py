"""The life of cross-group chains, as scripts that the model plays with the engine's own driver and lifecycles."""

from pathlib import Path

import pytest

from tests.model.script import Script, ScriptError

SCRIPTS = sorted((Path(__file__).parent / "chains").glob("*.txt"))


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_a_chain_lives_as_its_script_says(path: Path) -> None:
    Script(path).play()


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("expect alice 99", "found 100"),
        ("expect t1 A COMMITTED", "found A nothing"),
        ("commit t1 A", "no driver would send this"),
        ("reserve t1 A ignored", "it was logged"),
    ],
)
def test_a_script_that_is_wrong_fails(tmp_path: Path, line: str, why: str) -> None:
    path = tmp_path / "wrong.txt"
    path.write_text(f"account alice A 100 limited\naccount bob B\nchain t1: alice -> bob 30\n{line}\n")
    with pytest.raises(ScriptError, match=f"line 4.*{why}"):
        Script(path).play()
