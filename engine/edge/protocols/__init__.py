"""The protocols of the MTAs: octets in, octets out, nothing awaited; each module's head is its manual."""
