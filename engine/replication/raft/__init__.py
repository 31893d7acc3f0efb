"""Raft on PySyncObj's core, its flaws mended."""
