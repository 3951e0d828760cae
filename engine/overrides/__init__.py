"""The operators' overrides: parsed, planned as changes, and written to their topic."""
