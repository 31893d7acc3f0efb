"""The durable journal of the log, from segments to recovery."""
