"""What routers and nodes say among themselves: generated code in `v1`, see `proto/engine/peer`."""
