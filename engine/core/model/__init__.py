"""The plain model: the rules of the ledger in plain Python, which the kernel is held equal to."""
