"""Benchmarks: the service measured against other servers, and against itself without some parts."""
