"""Benchmarks: workloads, load and reports. Run one at a time; conservation is checked after every run."""
