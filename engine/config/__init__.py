"""Options: declared, loaded from file, environment and command line, checked, shown."""
