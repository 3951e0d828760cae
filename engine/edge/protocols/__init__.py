"""The protocols of the mail servers: bytes in, bytes out, nothing awaited. Each module's head is its manual."""
