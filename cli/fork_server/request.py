"""What the fork server is asked for."""

from typing import Final

import msgspec

REQUEST_BYTES_MAX: Final = 65_536


class Request(msgspec.Struct, frozen=True):
    """A process to be forked: the arguments of `posting-engine`, and the file that its output is added to.

    `errors` is the file for its standard error, if that is another one. `environment` is put over that of the fork
    server; too late for what is read when a program is loaded.
    """

    arguments: list[str]
    output: str
    errors: str | None = None
    environment: dict[str, str] = {}
