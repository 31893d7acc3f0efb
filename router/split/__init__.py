"""Split accounts in the router: funds for short buckets, one account out of many, splitting and merging (DESIGN §8)."""
