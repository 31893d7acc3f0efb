"""Types of options that benchmarks share: a value that makes no sense is refused before anything starts."""

import argparse
from collections.abc import Callable
from typing import Final

SHARE_MAX: Final = 1.0


def at_least(least: int) -> Callable[[str], int]:
    """Return the type of a whole number with a lower bound."""

    def number(text: str) -> int:
        if not text.lstrip("-").isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text} is not a whole number from {least} on")
        return int(text)

    return number


def share(text: str) -> float:
    """Read a part of a whole; below 0 where the option says what that means."""
    try:
        value = float(text)
    except ValueError:
        value = SHARE_MAX + 1
    if not value <= SHARE_MAX:
        raise argparse.ArgumentTypeError(f"{text} is not a share: write 0.2 for a fifth")
    return value


def parser_of(module: str, docstring: str | None) -> argparse.ArgumentParser:
    """Return a parser that is named as it is run, and whose help tells every default."""
    return argparse.ArgumentParser(
        prog=f"python -m {module}",
        description=(docstring or "").strip().splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
