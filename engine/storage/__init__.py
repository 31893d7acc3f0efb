"""The durable store of one replica. The only room that imports lmdb."""
