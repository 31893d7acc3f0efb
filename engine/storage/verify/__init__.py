"""Offline verification of a data folder, from genesis: nothing is believed but the journal's own chain of hashes."""
