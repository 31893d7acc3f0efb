"""Every bound of the contract and of replicated state, named once, units last (STYLE 5)."""

from typing import Final

BATCH_TRANSFERS_MAX: Final = 8190
"""Transfers in one call's batch. Also the longest chain."""
BATCH_BYTES_MAX: Final = 1 << 20
"""Bytes of one call's batch: 8190 x 128 fits."""
CHAIN_LEGS_MAX: Final = BATCH_TRANSFERS_MAX
CHAIN_GROUPS_MAX: Final = 16
"""Groups that one chain may touch, its decider included: each of them keeps the whole chain on record."""
LOG_RECORD_BYTES_TARGET: Final = 128 << 10
"""The batcher closes a log record at about this size; a chain is never cut, so it may reach `LOG_RECORD_BYTES_MAX`."""
LOG_RECORD_BYTES_MAX: Final = (1 << 20) + (256 << 10)
LOG_RECORD_CALLERS_MAX: Final = 4096
ACCOUNTS_MAX: Final = 1 << 27
OPEN_RESERVATIONS_MAX: Final = 1 << 24
OPEN_CHAINS_MAX: Final = 1 << 24
"""Cross-group chains that one group has secured and whose decider's word it waits for."""
EXPIRIES_PER_RECORD_MAX: Final = 1 << 16
"""Reservations that one log record expires; the rest of what is due waits for the next one, and cannot be committed."""
LEDGERS_MAX: Final = 4096
SLOTS: Final = 4096
GROUPS_MAX: Final = 1024
TIMEOUT_S_MAX: Final = (1 << 32) - 1
IDENTITY_BYTES_MAX: Final = 255
