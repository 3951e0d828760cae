"""Display the demo: a live panel on a terminal, occasional lines elsewhere, and the summary at the end."""

from __future__ import annotations

import time
from collections import deque
from datetime import UTC, datetime

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from engine.demo.report import ActorOutcome, OriginThrottles
from topics.decisions import THROTTLE, Decision
from topics.words import decision_text

SHOWN = 10
LINE_EVERY_S = 3.0


def short_time(epoch_ms: int) -> str:
    """Return an event time with its weekday, in UTC."""
    return datetime.fromtimestamp(epoch_ms / 1000, UTC).strftime("%a %d %b %Y %H:%M")


class Screen:
    """Displays progress, and decisions while `live` is set (on the last day)."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.live = False
        self._recent: deque[Decision] = deque(maxlen=SHOWN)
        self._head = Text()
        self._panel = Live(console=console, refresh_per_second=8, transient=True)
        self._line_s = 0.0

    def __enter__(self) -> Screen:
        if self.console.is_terminal:
            self._panel.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.console.is_terminal:
            self._panel.stop()

    def add(self, decision: Decision) -> None:
        """Display a published throttle."""
        if self.live and decision.verdict == THROTTLE:
            self._recent.append(decision)
            if not self.console.is_terminal:
                self.console.print(f"  {_reply(decision)}  {decision_text(decision)}", markup=False, highlight=False)

    def progress(self, stage: str, clock_ms: int, counts: dict[str, float]) -> None:
        """Display the event time and the worker's counts: events, rate, keys, throttles, lag."""
        self._head = Text.assemble(
            (f"{stage}  ", "bold"),
            f"{short_time(clock_ms)}   {counts['events']:>11,.0f} events   ",
            (f"{counts['rate']:>9,.0f} events/s   ", "bold green"),
            f"{counts['keys']:>7,.0f} senders   {counts['throttles']:>6,.0f} throttles   lag {counts['lag']:,.0f}",
        )
        if self.console.is_terminal:
            self._panel.update(Panel(Group(self._head, *self._table()), title="Tidegate", border_style="blue"))
        elif time.monotonic() - self._line_s >= LINE_EVERY_S:
            self._line_s = time.monotonic()
            self.console.print(self._head)

    def _table(self) -> list[Table]:
        if not self._recent:
            return []
        table = Table(box=None, show_header=False, padding=(0, 1))
        for decision in self._recent:
            table.add_row(Text(_reply(decision), "yellow"), decision_text(decision))
        return [table]


def _reply(decision: Decision) -> str:
    return f"{decision.reply['code']} {decision.reply['status']} ({decision.reply['tag']})"


def summary(console: Console, outcomes: list[ActorOutcome], origins: list[OriginThrottles]) -> None:
    """Print which actors were throttled and why, and how many senders of each origin were."""
    table = Table(title="The last day: scenarios and their outcomes", title_justify="left", show_lines=True)
    table.add_column("sender", max_width=34)
    table.add_column("scenario", max_width=52)
    table.add_column("throttled", max_width=60)
    for outcome in outcomes:
        actor = outcome.actor
        table.add_row(f"{actor.name}\n{actor.network}", actor.description, _outcome_text(outcome))
    console.print(table)
    totals = Table(title="Senders of the last day, and how many were throttled", title_justify="left")
    for column in ("kind", "senders", "throttled"):
        totals.add_column(column, justify="left" if column == "kind" else "right")
    for origin in origins:
        totals.add_row(origin.origin, f"{origin.senders:,}", f"{origin.throttled:,}")
    console.print(totals)
    _print_totals(console, outcomes)


def _outcome_text(outcome: ActorOutcome) -> Text:
    is_attack = outcome.actor.attack
    if outcome.first is None:
        return Text("no (missed)" if is_attack else "no (correct)", "red" if is_attack else "green")
    minutes = (outcome.first.issued - outcome.actor.start_ms) / 60_000
    summary = f"after {outcome.before:,} of {outcome.messages:,} messages, {minutes:,.0f} min after its start"
    if outcome.networks > 1:
        summary += f"; {outcome.networks} of its networks"
    return Text(f"{summary}\n{decision_text(outcome.first)}", "green" if is_attack else "red")


def _print_totals(console: Console, outcomes: list[ActorOutcome]) -> None:
    attacks = [outcome for outcome in outcomes if outcome.actor.attack]
    detected = [outcome for outcome in attacks if outcome.first is not None]
    false_alarms = [outcome for outcome in outcomes if not outcome.actor.attack and outcome.first is not None]
    console.print(
        f"{len(detected)} of {len(attacks)} attacks were throttled; of the {len(outcomes) - len(attacks)} legitimate hard "
        f"cases, {len(false_alarms)} had mail deferred (delayed, not lost)."
    )
