"""The same work done by others, as their own users would write it."""
