"""Posting batches over groups: each chain by the cheapest way that is right (DESIGN §7)."""
