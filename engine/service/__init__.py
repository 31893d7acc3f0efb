"""The node: gRPC servicers, batching, reads and the wiring of core, storage and replication."""
