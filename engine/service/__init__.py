"""Processes put together from worker, page and alerts; checks and capacity planning."""
