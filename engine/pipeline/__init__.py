"""The pure engine: built, replayed over files, compiled beforehand."""
