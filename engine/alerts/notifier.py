"""The notifier of a worker: looks every few seconds, and sends what the ledger says, each channel at its own pace.

A message that can't be delivered is tried again, after a second, two, four, up to five minutes, for a day; a slow receiver
holds up neither the worker nor another channel. At most `MOST_WAITING` wait in a channel: beyond, the oldest is dropped,
counted. What was told is remembered (`engine.alerts.alert_log`) once every channel has done with it.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from engine.alerts.alert_log import Memory
from engine.alerts.alert_state import LASTS, OVER, Covers, Ledger, Notice
from engine.alerts.channels import Channel, Mail, Message, Refused, Relay, Undelivered, Webhook
from engine.alerts.conditions import Condition
from engine.config.alert_options import Notify
from engine.config.validators import listed

logger = logging.getLogger(__name__)
EVERY_S = 5.0
FIRST_S, LONGEST_S, GIVE_UP_S = 1.0, 300.0, 86_400.0
MOST_WAITING = 1_000
DELIVERED, REFUSED, DROPPED = "delivered", "refused", "dropped"
Look = Callable[[], tuple[Sequence[Condition], Covers]]


def channels_of(options: Notify) -> list[Channel]:
    """The channels that are configured."""
    found: list[Channel] = []
    if options.webhook:
        found.append(Webhook(options.webhook, options.webhook_secret))
    if options.mail_to:
        relay = Relay(options.smtp, options.smtp_security, options.smtp_username, options.smtp_password)
        found.append(Mail(relay, options.mail_from, listed(options.mail_to)))
    return found


def message_of(notice: Notice, worker: str) -> Message:
    """A notice as it is sent. Its id is the same for the same condition, beginning and state, whoever tells it; each time that
    it is told again has one of its own."""
    condition = notice.condition
    text = condition.over if notice.state == OVER else condition.said
    seed = f"{condition.name} {notice.since_ms} {notice.state} {notice.at_ms if notice.state == LASTS else ''}"
    fields: dict[str, Any] = {
        "id": hashlib.sha256(seed.encode()).hexdigest()[:24],
        "condition": condition.kind,
        "name": condition.name,
        "state": notice.state,
        "since": notice.since_ms,
        "worker": worker,
    }
    return Message(f"[tidegate] {'over: ' if notice.state == OVER else ''}{condition.name}", text, fields)


class Outbox:
    """What waits for a channel. ``outcomes`` counts for all of them."""

    def __init__(self, channel: Channel, outcomes: Counter[tuple[str, str]]) -> None:
        self._channel, self._outcomes = channel, outcomes
        self._waiting: deque[tuple[float, Message, asyncio.Future[None]]] = deque()
        self._some = asyncio.Event()

    def put(self, message: Message) -> asyncio.Future[None]:
        """Behind the others; what is returned is done when this channel has done with it."""
        if len(self._waiting) >= MOST_WAITING:
            self._waiting.popleft()[2].set_result(None)
            self._count(DROPPED)
        done = asyncio.get_running_loop().create_future()
        self._waiting.append((time.monotonic(), message, done))
        self._some.set()
        return done

    async def run(self) -> None:
        """Send until cancelled, in order."""
        while True:
            if not self._waiting:
                self._some.clear()
                await self._some.wait()
            since_s, message, done = self._waiting.popleft()
            await self._deliver(since_s, message)
            done.set_result(None)

    async def _deliver(self, since_s: float, message: Message) -> None:
        pause_s = FIRST_S
        while True:
            try:
                await self._channel.send(message)
                return self._count(DELIVERED)
            except Refused as error:
                logger.warning("%s refused by the %s: %s", message.subject, self._channel.name, error)
                return self._count(REFUSED)
            except Undelivered as error:
                logger.warning(
                    "%s: the %s can't be reached, trying again: %s", message.subject, self._channel.name, error
                )
            if time.monotonic() - since_s > GIVE_UP_S:
                return self._count(DROPPED)
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_S)

    def _count(self, outcome: str) -> None:
        self._outcomes[self._channel.name, outcome] += 1


class Notifier:
    """Tells of what ``look`` finds, if its kind is wanted and nobody has told it. ``outcomes``: by channel and what became of
    it. ``look`` says what holds, and of which conditions it would know."""

    def __init__(self, options: Notify, worker: str, memory: Memory, look: Look) -> None:
        self.outcomes: Counter[tuple[str, str]] = Counter()
        self._look, self._worker, self._memory = look, worker, memory
        self._wanted = frozenset(listed(options.on))
        self._ledger = Ledger(options.hold_s * 1000, options.repeat_h * 3_600_000)
        self._outboxes = [Outbox(channel, self.outcomes) for channel in channels_of(options)]

    @property
    def needed(self) -> bool:
        """Whether there is anybody to tell."""
        return bool(self._outboxes)

    async def run(self) -> None:
        """Look and tell until cancelled; nothing before it is known what was told."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._memory.run())
            for outbox in self._outboxes:
                group.create_task(outbox.run())
            while True:
                if self._memory.known:
                    self.turn(int(time.time() * 1000))
                await asyncio.sleep(EVERY_S)

    def turn(self, now_ms: int) -> None:
        """One look."""
        held, covers = self._look()
        found = [condition for condition in held if condition.kind in self._wanted]
        for notice in self._ledger.turn(
            found, self._memory.told, lambda kind, name: kind in self._wanted and covers(kind, name), now_ms
        ):
            self._memory.note(notice.condition.name, notice.told)
            message = message_of(notice, self._worker)
            logger.warning("%s: %s", message.subject, message.text)
            sent = asyncio.gather(*(outbox.put(message) for outbox in self._outboxes))
            sent.add_done_callback(partial(self._keep, notice))

    def _keep(self, notice: Notice, sent: asyncio.Future[list[None]]) -> None:
        if not sent.cancelled():
            self._memory.keep(notice.condition.name, notice.told)
