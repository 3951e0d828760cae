"""Other thresholds, replies and relays for a running worker: read again, checked, taken whole between two blocks, or refused.

What was decided stays decided: every shard turns at one moment, between two blocks, and a checkpoint follows at once, so that a
crash later on replays nothing from before under the new configuration (one within that checkpoint does, and may publish other
decisions for those events). State is kept: T is the new knob's, as the site leans. Decisions name the configuration that they
were made under. What falls in a shadow that is new is withdrawn before the answer. Standbys turn with their worker; each worker
of a site is told by itself.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from engine.config.load import Settings
from engine.config.options import OPTIONS
from engine.decisions.publish_gate import Gate
from engine.pipeline.build import composer, engines_own
from engine.worker.apply import Engine
from topics.decisions import Decision
from topics.errors import OperatorError

logger = logging.getLogger(__name__)
RELAYS = "relays"


@dataclass(frozen=True, slots=True)
class Reload:
    """What came of reading the configuration again. ``number``: counts them; ``taken``: whether it holds now."""

    number: int
    at_ms: int
    taken: bool
    said: str


def changed(old: Settings, new: Settings) -> list[str]:
    """The options that differ, by path."""

    def value(settings: Settings, section: str, name: str) -> object:
        return getattr(getattr(settings, section), name)

    found = [
        option.path
        for option in OPTIONS
        if value(old, option.section, option.name) != value(new, option.section, option.name)
    ]
    return [*found, *([RELAYS] if old.relays != new.relays else [])]


def refuse_others(paths: list[str]) -> None:
    """`OperatorError` if any of these options only comes with a restart."""
    turning = {option.path for option in OPTIONS if option.rule.reloads} | {RELAYS}
    others = [path for path in paths if path not in turning]
    if others:
        raise OperatorError(
            f"{', '.join(others)} changed, which needs a restart: nothing of the new configuration is taken; restart the "
            "worker, or change it back"
        )


class Reloader:
    """Turns ``engine`` to other settings. ``read``: reads them as they are now; raises `OperatorError`."""

    def __init__(self, settings: Settings, engine: Engine, read: Callable[[], Settings]) -> None:
        self.settings = settings
        self.last: Reload | None = None
        self._engine, self._read = engine, read
        self._turning = asyncio.Lock()

    async def reload(self) -> Reload:
        """Read, check and take, or refuse whole."""
        async with self._turning:
            try:
                said, taken = await self._take(await asyncio.to_thread(self._read)), True
            except OperatorError as error:
                said, taken = str(error), False
            number = 1 if self.last is None else self.last.number + 1
            self.last = Reload(number, int(time.time() * 1000), taken, said)
            logger.log(
                logging.INFO if taken else logging.ERROR, "%s", said if taken else f"configuration not taken: {said}"
            )
            return self.last

    async def _take(self, new: Settings) -> str:
        paths = changed(self.settings, new)
        if not paths:
            return "nothing has changed in the configuration"
        refuse_others(paths)
        engines_own(new, "a worker")
        made = composer(new)

        left: list[tuple[Gate, Iterator[Decision]]] = []

        def turn() -> None:
            self.settings = new
            left.extend(self._engine.compose_with(made))

        offsets = await self._engine.shards.turn(new, turn)
        withdrawn = await self._engine.say(left)
        where = ", ".join(f"{number} behind {offset}" for number, offset in sorted(offsets.items())) or "none here"
        shadow = f"; in shadow: {made.shadow}; {withdrawn:,} throttles withdrawn" if made.shadow.digest else ""
        return f"configuration {made.config[:19]} ({', '.join(paths)}) holds from now on; partitions: {where}{shadow}"
