"""The notifier of a worker: looks every few seconds, and sends what the ledger says, each channel at its own pace.

A message that can't be delivered is tried again, after a second, two, four, up to five minutes, for a day; a slow receiver
holds up neither the worker nor another channel. At most `MOST_WAITING` wait in a channel: beyond, the oldest is dropped,
counted.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from typing import Any

from engine.listed import listed
from engine.notify.channels import Channel, Mail, Message, Refused, Relay, Undelivered, Webhook
from engine.notify.conditions import Condition
from engine.notify.ledger import OVER, Ledger, Notice
from engine.notifyoptions import Notify

logger = logging.getLogger(__name__)
EVERY_S = 5.0
FIRST_S, LONGEST_S, GIVE_UP_S = 1.0, 300.0, 86_400.0
MOST_WAITING = 1_000
DELIVERED, REFUSED, DROPPED = "delivered", "refused", "dropped"


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
    """A notice as it is sent. Its id is the same for the same condition, beginning and state."""
    condition = notice.condition
    text = condition.over if notice.state == OVER else condition.said
    seed = f"{condition.name} {notice.since_ms} {notice.state} {worker}"
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
        self._waiting: deque[tuple[float, Message]] = deque()
        self._some = asyncio.Event()

    def put(self, message: Message) -> None:
        """Behind the others."""
        if len(self._waiting) >= MOST_WAITING:
            self._waiting.popleft()
            self._count(DROPPED)
        self._waiting.append((time.monotonic(), message))
        self._some.set()

    async def run(self) -> None:
        """Send until cancelled, in order."""
        while True:
            if not self._waiting:
                self._some.clear()
                await self._some.wait()
            await self._deliver(*self._waiting.popleft())

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
    """Tells of what ``look`` finds, if its kind is wanted. ``outcomes``: by channel and what became of it."""

    def __init__(self, options: Notify, worker: str, look: Callable[[], Iterable[Condition]]) -> None:
        self.outcomes: Counter[tuple[str, str]] = Counter()
        self._look, self._worker = look, worker
        self._wanted = frozenset(listed(options.on))
        self._ledger = Ledger(options.hold_s * 1000, options.repeat_h * 3_600_000)
        self._outboxes = [Outbox(channel, self.outcomes) for channel in channels_of(options)]

    @property
    def needed(self) -> bool:
        """Whether there is anybody to tell."""
        return bool(self._outboxes)

    async def run(self) -> None:
        """Look and tell until cancelled."""
        async with asyncio.TaskGroup() as group:
            for outbox in self._outboxes:
                group.create_task(outbox.run())
            while True:
                self.turn(int(time.time() * 1000))
                await asyncio.sleep(EVERY_S)

    def turn(self, now_ms: int) -> None:
        """One look."""
        found = [condition for condition in self._look() if condition.kind in self._wanted]
        for notice in self._ledger.turn(found, now_ms):
            message = message_of(notice, self._worker)
            logger.warning("%s: %s", message.subject, message.text)
            for outbox in self._outboxes:
                outbox.put(message)
