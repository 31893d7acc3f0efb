"""Frames over sockets between the replicas of one group."""
