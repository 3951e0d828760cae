"""Tidegate beside what a user would take instead: one workload, one job, one checked answer (`make bench`)."""
