"""What was tried and not taken, still runnable (README.md)."""
