"""JSON logs: one object a line on stderr, with the transfer id, group, term and log index where they apply."""

import logging
import sys
from typing import Final

import msgspec

FIELDS: Final = ("cluster", "group", "replica", "term", "log_index", "position", "transfer_id", "address", "seconds")
"""What `extra=` may carry into a line."""


class JsonFormatter(logging.Formatter):
    """Formats one record as one line of JSON."""

    def __init__(self, common: dict[str, object]) -> None:
        super().__init__()
        self._common = common

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without its end."""
        line: dict[str, object] = {
            "time": self.formatTime(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **self._common,
        }
        line.update({name: getattr(record, name) for name in FIELDS if hasattr(record, name)})
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line, enc_hook=str).decode()


def set_up_logs(common: dict[str, object], level: int = logging.INFO) -> None:
    """Send every log of this process to stderr as JSON; `common` (group, replica) goes into each line."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(common))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
