"""The kernel: the rules of the ledger, compiled, on arrays. `engine.core.events` and `engine.core.steps` lead in."""
