"""Reload thresholds, replies and relays of a running worker: read, check, then apply all between two blocks, or refuse all.

- Published decisions stay. Every shard changes between the same two blocks.
- A checkpoint follows immediately, so a later crash replays no earlier event under the new configuration. A crash before that
  checkpoint does, and may publish other decisions for those events.
- State is kept; the threshold is the new sensitivity's, scaled as the site has learnt.
- A decision names the configuration that it was made under.
- Throttles under new shadow rules are withdrawn before the reply.
- Standbys change with their worker. Each worker of a site is reloaded separately.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from engine.config.load import Settings
from engine.config.options import OPTIONS
from engine.pipeline.build import composer, require_peak_memory
from engine.worker.apply import BlockApplier
from engine.worker.shards import Shards
from topics.errors import OperatorError

logger = logging.getLogger(__name__)
RELAYS = "relays"


@dataclass(frozen=True, slots=True)
class Reload:
    """The outcome of one reload."""

    number: int  # counts them
    at_ms: int
    applied: bool  # the new configuration is active
    text: str  # for the operator


def changed_options(old: Settings, new: Settings) -> list[str]:
    """Return the paths of the options that differ."""

    def value(settings: Settings, section: str, name: str) -> object:
        return getattr(getattr(settings, section), name)

    paths = [
        option.path
        for option in OPTIONS
        if value(old, option.section, option.name) != value(new, option.section, option.name)
    ]
    return [*paths, *([RELAYS] if old.relays != new.relays else [])]


def refuse_restart_options(paths: list[str]) -> None:
    """Raise `OperatorError` if any of these options requires a restart."""
    reloadable = {option.path for option in OPTIONS if option.rule.reloads} | {RELAYS}
    others = [path for path in paths if path not in reloadable]
    if others:
        raise OperatorError(
            f"{', '.join(others)} changed, which needs a restart: nothing of the new configuration is applied; restart the "
            "worker, or change it back"
        )


class Reloader:
    """Reconfigures the shards. ``read`` returns the settings as they are now, or raises `OperatorError`."""

    def __init__(self, settings: Settings, shards: Shards, applier: BlockApplier, read: Callable[[], Settings]) -> None:
        self.settings = settings
        self.last: Reload | None = None
        self._shards, self._applier, self._read = shards, applier, read
        self._reloading = asyncio.Lock()

    async def reload(self) -> Reload:
        """Read and check the configuration; apply all of it, or refuse all of it."""
        async with self._reloading:
            try:
                text, applied = await self._apply(await asyncio.to_thread(self._read)), True
            except OperatorError as error:
                text, applied = str(error), False
            number = 1 if self.last is None else self.last.number + 1
            self.last = Reload(number, int(time.time() * 1000), applied, text)
            logger.log(
                logging.INFO if applied else logging.ERROR, "%s", text if applied else f"configuration refused: {text}"
            )
            return self.last

    async def _apply(self, new: Settings) -> str:
        paths = changed_options(self.settings, new)
        if not paths:
            return "nothing has changed in the configuration"
        refuse_restart_options(paths)
        require_peak_memory(new, "a worker")
        made = composer(new)
        changed = await self._shards.reconfigure(new, made)
        self.settings = new
        self._applier.flow.withdrawn += changed.withdrawn
        await self._applier.publish(changed.decisions)
        offsets = ", ".join(f"{number} after {offset}" for number, offset in sorted(changed.offsets.items()))
        shadow = f"; in shadow: {made.shadow}; {changed.withdrawn:,} throttles withdrawn" if made.shadow.digest else ""
        return (
            f"configuration {made.config[:19]} ({', '.join(paths)}) is active from now on; "
            f"partitions: {offsets or 'none here'}{shadow}"
        )
