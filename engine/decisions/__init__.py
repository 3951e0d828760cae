"""Verdicts, overrides and shadow mode to decisions. Pure."""
