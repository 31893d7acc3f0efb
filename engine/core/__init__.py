"""The rules of the ledger: pure, synchronous, deterministic. No clock, no I/O, no asyncio, no random, no float."""
