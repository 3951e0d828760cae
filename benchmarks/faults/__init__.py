"""What breaks around a worker, and what recovery costs."""
