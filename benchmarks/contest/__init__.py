"""Tidegate compared with what a user would use instead: one workload, one job, one checked answer (`make bench`)."""
