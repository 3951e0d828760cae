"""The contest's job in other engines, as their own users would write it."""
