"""How right the decisions are, and what the model costs."""
