"""Real logs as connection events: Postfix, Exim's main log, CSV. Bad lines are counted and shown, never fatal."""
