"""Telling an operator, by webhook and mail, of what needs one: each thing once when it begins and once when it is over."""
