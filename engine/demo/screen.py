"""What the demo shows: a live panel on a terminal, a line now and then elsewhere, and the summary at the end."""

from __future__ import annotations

import time
from collections import deque
from datetime import UTC, datetime

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from engine.demo.report import Outcome, Toll
from topics.decisions import THROTTLE, Decision
from topics.words import in_words

SHOWN = 10
LINE_EVERY_S = 3.0


def moment(epoch_ms: int) -> str:
    """Event time for people."""
    return datetime.fromtimestamp(epoch_ms / 1000, UTC).strftime("%a %d %b %Y %H:%M")


class Screen:
    """Shows progress; ``decisions`` are only shown while `live` (the last day)."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.live = False
        self._recent: deque[Decision] = deque(maxlen=SHOWN)
        self._head = Text()
        self._live = Live(console=console, refresh_per_second=8, transient=True)
        self._line_s = 0.0

    def __enter__(self) -> Screen:
        if self.console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.console.is_terminal:
            self._live.stop()

    def decision(self, decision: Decision) -> None:
        """Take note of a decision that has just been published."""
        if self.live and decision.verdict == THROTTLE:
            self._recent.append(decision)
            if not self.console.is_terminal:
                self.console.print(f"  {_reply(decision)}  {in_words(decision)}", markup=False, highlight=False)

    def progress(self, stage: str, clock_ms: int, counts: dict[str, float]) -> None:
        """Show where the month is and what the worker has done: events, rate, keys, throttles, lag."""
        self._head = Text.assemble(
            (f"{stage}  ", "bold"),
            f"{moment(clock_ms)}   {counts['events']:>11,.0f} events   ",
            (f"{counts['rate']:>9,.0f} events/s   ", "bold green"),
            f"{counts['keys']:>7,.0f} senders   {counts['throttles']:>6,.0f} throttles   lag {counts['lag']:,.0f}",
        )
        if self.console.is_terminal:
            self._live.update(Panel(Group(self._head, *self._table()), title="Tidegate", border_style="blue"))
        elif time.monotonic() - self._line_s >= LINE_EVERY_S:
            self._line_s = time.monotonic()
            self.console.print(self._head)

    def _table(self) -> list[Table]:
        if not self._recent:
            return []
        table = Table(box=None, show_header=False, padding=(0, 1))
        for decision in self._recent:
            table.add_row(Text(_reply(decision), "yellow"), in_words(decision))
        return [table]


def _reply(decision: Decision) -> str:
    return f"{decision.reply['code']} {decision.reply['status']} ({decision.reply['tag']})"


def summary(console: Console, fates: list[Outcome], costs: list[Toll]) -> None:
    """Who was held and why, who wasn't, and the price."""
    table = Table(title="The last day: what was played, and what became of it", title_justify="left", show_lines=True)
    table.add_column("who", max_width=34)
    table.add_column("what", max_width=52)
    table.add_column("throttled", max_width=60)
    for fate in fates:
        table.add_row(f"{fate.actor.name}\n{fate.actor.network}", fate.actor.story, _fate(fate))
    console.print(table)
    cost = Table(title="Senders of the last day, and how many were throttled", title_justify="left")
    for column in ("kind", "senders", "throttled"):
        cost.add_column(column, justify="left" if column == "kind" else "right")
    for toll in costs:
        cost.add_row(toll.origin, f"{toll.senders:,}", f"{toll.throttled:,}")
    console.print(cost)
    _lesson(console, fates)


def _fate(fate: Outcome) -> Text:
    if fate.first is None:
        return Text("no (missed)" if fate.actor.attack else "no (rightly)", "red" if fate.actor.attack else "green")
    minutes = (fate.first.issued - fate.actor.start_ms) / 60_000
    said = f"after {fate.before:,} of {fate.messages:,} messages, {minutes:,.0f} min in"
    if fate.networks > 1:
        said += f"; {fate.networks} of its networks"
    return Text(f"{said}\n{in_words(fate.first)}", "green" if fate.actor.attack else "red")


def _lesson(console: Console, fates: list[Outcome]) -> None:
    attacks = [fate for fate in fates if fate.actor.attack]
    held = [fate for fate in attacks if fate.first is not None]
    honest = [fate for fate in fates if not fate.actor.attack and fate.first is not None]
    console.print(
        f"{len(held)} of {len(attacks)} attacks were throttled; of the {len(fates) - len(attacks)} honest hard cases, "
        f"{len(honest)} had mail deferred (delayed, not lost)."
    )
