"""Build the pure engine, replay files through it, and compile its kernels before use."""
