"""What node and router share of gRPC: reading batches, building answers, faults as statuses, servers and logs."""
