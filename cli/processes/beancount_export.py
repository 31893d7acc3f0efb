"""Reads a ledger with Beancount and prints it as JSON lines. Run as a process of its own; nothing imports this file.

    python beancount_export.py entries FILE    what the file holds, in Beancount's order
    python beancount_export.py balances FILE   each account's and commodity's final balance, as Beancount computes it

Beancount is GPL-2.0, the engine is Apache-2.0: only this file imports it, and text is all that crosses.
Exit codes: 0, 2 for a wrong command line, 3 where Beancount is not installed.
"""

import json
import sys
from collections.abc import Iterator
from typing import Any

try:
    from beancount import loader
    from beancount.core import convert, data, realization
    from beancount.ops import balance as assertions
except ImportError:
    sys.exit(3)

Line = dict[str, Any]


def main(arguments: list[str]) -> int:
    """Print the lines asked for; return the exit code."""
    if len(arguments) != 2 or arguments[0] not in ("entries", "balances"):
        print(__doc__, file=sys.stderr)
        return 2
    what, path = arguments
    entries, errors, options = loader.load_file(path)
    lines = entry_lines(entries, errors, options) if what == "entries" else balance_lines(entries)
    for line in lines:
        print(json.dumps(line, ensure_ascii=False))
    return 0


def entry_lines(entries: Any, errors: Any, options: Any) -> Iterator[Line]:
    """Yield errors, opened accounts, transactions and balance assertions."""
    for error in errors:
        yield {"type": "error", "line": _line(error.source), "message": error.message}
    for entry in entries:
        if isinstance(entry, data.Open):
            yield {"type": "open", "date": str(entry.date), "account": entry.account}
        elif isinstance(entry, data.Transaction):
            yield transaction_line(entry)
        elif isinstance(entry, data.Balance):
            yield assertion_line(entry, options)


def transaction_line(entry: Any) -> Line:
    """Write one transaction. Prices and costs stay behind: they move nothing."""
    return {
        "type": "transaction",
        "line": _line(entry.meta),
        "date": str(entry.date),
        "payee": entry.payee or "",
        "narration": entry.narration or "",
        "postings": [
            {"account": one.account, "number": str(one.units.number), "commodity": one.units.currency}
            for one in entry.postings
        ],
    }


def assertion_line(entry: Any, options: Any) -> Line:
    """Write one balance assertion with the tolerance that Beancount gives it."""
    return {
        "type": "assertion",
        "line": _line(entry.meta),
        "date": str(entry.date),
        "account": entry.account,
        "number": str(entry.amount.number),
        "commodity": entry.amount.currency,
        "tolerance": str(assertions.get_balance_tolerance(entry, options)),
    }


def balance_lines(entries: Any) -> Iterator[Line]:
    """Yield the balance in units of every account and commodity, zero ones left out."""
    for account in realization.iter_children(realization.realize(entries)):
        for position in account.balance.reduce(convert.get_units):
            number, commodity = position.units
            yield {"type": "balance", "account": account.account, "number": str(number), "commodity": commodity}


def _line(meta: Any) -> int:
    """Return the line in the source; 0 where a plug-in made the entry."""
    return int((meta or {}).get("lineno") or 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
