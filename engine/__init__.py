"""The posting engine: the double-entry core of one shard group and the node that serves it."""
