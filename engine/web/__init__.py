"""The worker's HTTP: page, status, metrics. It looks at the engine between two blocks, and never makes it wait."""
