"""The command `posting-engine`: finds the command that was asked for, and turns what goes wrong into one sentence."""

import importlib
import sys
from typing import Final

import click

from engine.exit_codes import EngineStopped, ExitCode

COMMANDS: Final = {
    "init": ("cli.commands.init", "init"),
    "up": ("cli.commands.up", "up"),
    "node": ("cli.commands.node", "node"),
    "router": ("cli.commands.router", "router"),
    "ledgers": ("cli.commands.ledgers", "ledgers"),
    "accounts": ("cli.commands.accounts", "accounts"),
    "post": ("cli.commands.post", "post"),
    "balance": ("cli.commands.balance", "balance"),
    "statement": ("cli.commands.statement", "statement"),
    "open": ("cli.commands.open", "open_reservations"),
    "describe": ("cli.commands.describe", "describe"),
    "hot": ("cli.commands.hot", "hot"),
    "split": ("cli.commands.split", "split"),
    "merge": ("cli.commands.merge", "merge"),
    "audit": ("cli.commands.audit", "audit"),
    "reconcile": ("cli.commands.reconcile", "reconcile"),
    "replace": ("cli.commands.replace", "replace"),
    "verify": ("cli.commands.verify", "verify"),
    "import": ("cli.commands.import_ledger", "import_ledger"),
    "demo": ("cli.commands.demo", "demo"),
    "errors": ("cli.commands.errors", "errors"),
    "warm-up": ("cli.commands.warm_up", "warm_up"),
}
"""Name -> (module, attribute). Loaded when asked for: `--help` must not wait for the compiled kernels."""


class LazyGroup(click.Group):
    """A group that imports the module of a command when it is first looked at."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of the table, which goes from starting a cluster to looking into it."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return one command; None if there is no such name."""
        if cmd_name not in COMMANDS:
            return None
        module, attribute = COMMANDS[cmd_name]
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="posting-engine")
def posting_engine() -> None:
    """A double-entry posting engine: start it, post to it, look into it, check it."""


def main() -> None:
    """Run the command line; every failure ends in one sentence and an exit code of `engine.exit_codes`."""
    sys.exit(_exit_code())


def _exit_code() -> int:
    try:
        posting_engine(standalone_mode=False)
    except click.exceptions.Exit as ended:
        return ended.exit_code
    except click.ClickException as mistake:
        mistake.show()
        return ExitCode.USAGE
    except (click.Abort, KeyboardInterrupt):
        click.echo("Stopped.", err=True)
        return ExitCode.FAILED
    except EngineStopped as stopped:
        click.echo(f"posting-engine: {stopped}", err=True)
        return stopped.code
    return ExitCode.OK
