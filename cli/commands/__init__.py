"""The commands of `posting-engine`, one module each."""
