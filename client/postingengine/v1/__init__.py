"""Messages and stubs of the wire contract, version 1: generated from `proto/postingengine/v1`."""
