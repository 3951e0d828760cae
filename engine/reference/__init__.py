"""Documents in deploy/ that are generated from declarations."""
