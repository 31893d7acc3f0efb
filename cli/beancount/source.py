"""What a Beancount file holds, read by Beancount itself in a process of its own (`cli/processes`)."""

import os
import subprocess
import sys
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias

import msgspec

from engine.exit_codes import EngineStopped, ExitCode

EXPORT_SCRIPT: Final = Path(__file__).parent.parent / "processes" / "beancount_export.py"
EXPORT_S_MAX: Final = 600
NOT_INSTALLED: Final = 3
"""The script's exit code where Beancount is missing."""
ERRORS_SHOWN_MAX: Final = 3


class SourceError(msgspec.Struct, tag_field="type", tag="error", frozen=True):
    """Something that Beancount finds wrong with the file."""

    line: int
    message: str


class OpenedAccount(msgspec.Struct, tag_field="type", tag="open", frozen=True):
    """An `open` directive."""

    date: date
    account: str


class Posting(msgspec.Struct, frozen=True):
    """One leg: units of a commodity put on an account (above zero: a debit)."""

    account: str
    number: Decimal
    commodity: str


class Transaction(msgspec.Struct, tag_field="type", tag="transaction", frozen=True):
    """A booked transaction; prices and costs are left out, for they move nothing."""

    line: int
    date: date
    payee: str
    narration: str
    postings: tuple[Posting, ...]


class Assertion(msgspec.Struct, tag_field="type", tag="assertion", frozen=True):
    """A `balance` directive: what an account and all below it hold when `date` begins."""

    line: int
    date: date
    account: str
    number: Decimal
    commodity: str
    tolerance: Decimal


class FinalBalance(msgspec.Struct, tag_field="type", tag="balance", frozen=True):
    """What Beancount says an account holds at the end."""

    account: str
    number: Decimal
    commodity: str


Line: TypeAlias = SourceError | OpenedAccount | Transaction | Assertion | FinalBalance


class Source(NamedTuple):
    """A file's content, in Beancount's order."""

    transactions: tuple[Transaction, ...]
    assertions: tuple[Assertion, ...]
    opened: tuple[OpenedAccount, ...]


def read_source(path: Path) -> Source:
    """Read a ledger; raises `EngineStopped` where Beancount is missing, or finds an error in the file."""
    lines = _export("entries", path)
    errors = [line for line in lines if isinstance(line, SourceError)]
    if errors:
        shown = "; ".join(f"line {one.line}: {' '.join(one.message.split())}" for one in errors[:ERRORS_SHOWN_MAX])
        raise EngineStopped(
            ExitCode.CHECK_FAILED, f"Beancount finds {len(errors)} errors in {path}, correct them first: {shown}"
        )
    return Source(
        tuple(line for line in lines if isinstance(line, Transaction)),
        tuple(line for line in lines if isinstance(line, Assertion)),
        tuple(line for line in lines if isinstance(line, OpenedAccount)),
    )


def final_balances(path: Path) -> dict[tuple[str, str], Decimal]:
    """Return Beancount's own final balance of each (account, commodity), zero ones left out."""
    lines = _export("balances", path)
    return {(one.account, one.commodity): one.number for one in lines if isinstance(one, FinalBalance)}


def _export(what: str, path: Path) -> list[Line]:
    """Run the script on a file and decode its lines."""
    if not path.is_file():
        raise EngineStopped(ExitCode.USAGE, f"{path} is not a file: name the Beancount ledger to import")
    done = subprocess.run(
        [sys.executable, "-I", str(EXPORT_SCRIPT), what, str(path)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=EXPORT_S_MAX,
        check=False,
        # Beancount would otherwise keep a pickled copy beside the file.
        env={**os.environ, "BEANCOUNT_DISABLE_LOAD_CACHE": "1"},
    )
    if done.returncode == NOT_INSTALLED:
        raise EngineStopped(
            ExitCode.USAGE, "Beancount is not installed: install the extra with 'pip install posting-engine[beancount]'"
        )
    if done.returncode != 0:
        last = (done.stderr.decode(errors="replace").strip().splitlines() or ["it says nothing"])[-1]
        raise EngineStopped(ExitCode.FAILED, f"Beancount could not read {path}: {last}")
    decoder = msgspec.json.Decoder(Line)
    return [decoder.decode(line) for line in done.stdout.splitlines()]
