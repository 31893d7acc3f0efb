"""Deterministic simulation of the replicated log: real `RaftLog` objects, virtual time, a bad network, bad disks."""
