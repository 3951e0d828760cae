"""Pages with a part that a benchmark writes: between two marks, the rest is ours."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple


class Part(NamedTuple):
    """The marks around the written part; ``command``: what writes it."""

    name: str
    command: str

    @property
    def begin(self) -> str:
        """The mark that it begins at."""
        return f"<!-- {self.name}: written by {self.command} -->"

    @property
    def end(self) -> str:
        """The mark that it ends at."""
        return f"<!-- {self.name}: end -->"

    def split(self, page: str) -> tuple[str, str, str]:
        """The page before, between and behind the marks."""
        before, begun, rest = page.partition(self.begin)
        between, ended, behind = rest.partition(self.end)
        assert begun, f"the page lacks {self.begin}"
        assert ended, f"the page lacks {self.end}"
        return before, between, behind

    def write(self, path: Path, text: str) -> None:
        """Put ``text`` between the marks of a page."""
        before, _, behind = self.split(path.read_text(encoding="utf-8"))
        path.write_text(before + self.begin + text + self.end + behind, encoding="utf-8")
