"""Notify operators by webhook and mail: once when a condition begins, daily while it lasts, once when it is over."""
