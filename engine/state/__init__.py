"""From state to verdicts: what a sender's excess leads to, for how long, and how it is put into words."""
