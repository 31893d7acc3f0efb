"""Nodes and routers of one machine as forks of one process that has loaded everything: each starts in a tenth of the
time, and shares the memory of what it does not change."""
