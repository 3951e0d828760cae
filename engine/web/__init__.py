"""The worker's HTTP server: page, status and metrics. It reads the engine between two blocks and never delays it."""
