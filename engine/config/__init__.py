"""Options: declared, read from file, environment and command line, checked, shown."""
