"""Split accounts (DESIGN §8): where a transfer runs, what buckets hold together, what keeps them near the demand."""
