"""Generate documents in deploy/ from declarations."""
