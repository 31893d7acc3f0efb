"""Times as people write them, ISO 8601 in UTC, and as the engine counts them, nanoseconds since 1970."""

from datetime import UTC, date, datetime, timedelta
from typing import Final

NS_PER_S: Final = 1_000_000_000
NS_PER_US: Final = 1_000
TIME_NS_MAX: Final = (1 << 63) - 1
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def day_start_ns(day: date) -> int:
    """Return midnight UTC."""
    return (datetime(day.year, day.month, day.day, tzinfo=UTC) - EPOCH) // timedelta(microseconds=1) * NS_PER_US


def parse_time(text: str) -> int:
    """Read a date (its midnight) or a time; without an offset it is UTC. Raises ValueError with one sentence."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise ValueError(f"{text!r} is not a time: write 2026-01-31 or 2026-01-31T12:00:00") from error
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    time_ns = (moment - EPOCH) // timedelta(microseconds=1) * NS_PER_US
    if not 0 < time_ns <= TIME_NS_MAX:
        raise ValueError(f"the time {text} is not between 1970 and 2262")
    return time_ns


def time_text(time_ns: int) -> str:
    """Write a time in UTC to the microsecond, a midnight as its date; nothing for 0."""
    if time_ns == 0:
        return ""
    moment = EPOCH + timedelta(microseconds=time_ns // NS_PER_US)
    at_midnight = time_ns % (86_400 * NS_PER_S) == 0
    return moment.date().isoformat() if at_midnight else moment.replace(tzinfo=None).isoformat() + "Z"
