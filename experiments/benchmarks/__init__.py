"""Benchmarks: scripts that print numbers and assert nothing."""
