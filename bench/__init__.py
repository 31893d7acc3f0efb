"""Benchmarks: workloads, load and reports. Run under one lock, one at a time; conservation is checked after every run."""
