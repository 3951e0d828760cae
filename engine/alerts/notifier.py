"""Report conditions to operators: evaluate every `EVERY_S`, and send due notices, each channel at its own pace.

A failed delivery is retried after 1, 2, 4, ... up to `MAX_RETRY_S` seconds, for `GIVE_UP_S`. A slow receiver delays neither
the worker nor another channel. At most `MAX_WAITING` messages wait in a channel; beyond, the oldest is dropped and counted.
A notice is recorded in the alert log (`engine.alerts.alert_log`) once every channel has delivered or dropped it.
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

from engine.alerts.alert_log import AlertLog
from engine.alerts.alert_state import LASTS, OVER, AlertState, Covers, Notice
from engine.alerts.channels import (
    AlertChannel,
    AlertMessage,
    DeliveryFailed,
    DeliveryRefused,
    MailChannel,
    SmtpServer,
    WebhookChannel,
)
from engine.alerts.conditions import Condition
from engine.config.alert_options import AlertOptions
from engine.config.validators import split_list

logger = logging.getLogger(__name__)
EVERY_S = 5.0
FIRST_RETRY_S, MAX_RETRY_S, GIVE_UP_S = 1.0, 300.0, 86_400.0
MAX_WAITING = 1_000
DELIVERED, REFUSED, DROPPED = "delivered", "refused", "dropped"
Evaluate = Callable[[], tuple[Sequence[Condition], Covers]]  # the true conditions, and those that can be detected


def channels_from(options: AlertOptions) -> list[AlertChannel]:
    """Return the channels that are configured."""
    channels: list[AlertChannel] = []
    if options.webhook:
        channels.append(WebhookChannel(options.webhook, options.webhook_secret))
    if options.mail_to:
        server = SmtpServer(options.smtp, options.smtp_security, options.smtp_username, options.smtp_password)
        channels.append(MailChannel(server, options.mail_from, split_list(options.mail_to)))
    return channels


def build_message(notice: Notice, worker: str) -> AlertMessage:
    """Return the message for a notice.

    Its id depends on condition, beginning and state but not on the worker, so a receiver can drop a duplicate after a
    takeover. Each repetition while the condition lasts has an id of its own.
    """
    condition = notice.condition
    text = condition.over_text if notice.state == OVER else condition.text
    seed = f"{condition.name} {notice.since_ms} {notice.state} {notice.at_ms if notice.state == LASTS else ''}"
    fields: dict[str, Any] = {
        "id": hashlib.sha256(seed.encode()).hexdigest()[:24],
        "condition": condition.kind,
        "name": condition.name,
        "state": notice.state,
        "since": notice.since_ms,
        "worker": worker,
    }
    return AlertMessage(f"[tidegate] {'over: ' if notice.state == OVER else ''}{condition.name}", text, fields)


class Outbox:
    """The messages that wait for one channel. ``outcomes`` counts for all channels."""

    def __init__(self, channel: AlertChannel, outcomes: Counter[tuple[str, str]]) -> None:
        self._channel, self._outcomes = channel, outcomes
        self._waiting: deque[tuple[float, AlertMessage, asyncio.Future[None]]] = deque()
        self._filled = asyncio.Event()

    def put(self, message: AlertMessage) -> asyncio.Future[None]:
        """Queue the message; the future is done once this channel has delivered or dropped it."""
        if len(self._waiting) >= MAX_WAITING:
            self._waiting.popleft()[2].set_result(None)
            self._count(DROPPED)
        done = asyncio.get_running_loop().create_future()
        self._waiting.append((time.monotonic(), message, done))
        self._filled.set()
        return done

    async def run(self) -> None:
        """Send messages in order until cancelled."""
        while True:
            if not self._waiting:
                self._filled.clear()
                await self._filled.wait()
            since_s, message, done = self._waiting.popleft()
            await self._deliver(since_s, message)
            done.set_result(None)

    async def _deliver(self, since_s: float, message: AlertMessage) -> None:
        pause_s = FIRST_RETRY_S
        while True:
            try:
                await self._channel.send(message)
                return self._count(DELIVERED)
            except DeliveryRefused as error:
                logger.warning("%s: refused by the %s: %s", message.subject, self._channel.name, error)
                return self._count(REFUSED)
            except DeliveryFailed as error:
                logger.warning("%s: the %s failed, trying again: %s", message.subject, self._channel.name, error)
            if time.monotonic() - since_s > GIVE_UP_S:
                return self._count(DROPPED)
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, MAX_RETRY_S)

    def _count(self, outcome: str) -> None:
        self._outcomes[self._channel.name, outcome] += 1


class Notifier:
    """Report the conditions of wanted kinds that ``evaluate`` returns, once for all workers.

    ``outcomes`` counts notifications by channel and outcome.
    """

    def __init__(self, options: AlertOptions, worker: str, alert_log: AlertLog, evaluate: Evaluate) -> None:
        self.outcomes: Counter[tuple[str, str]] = Counter()
        self._evaluate, self._worker, self._alert_log = evaluate, worker, alert_log
        self._wanted = frozenset(split_list(options.on))
        self._state = AlertState(options.hold_s * 1000, options.repeat_h * 3_600_000)
        self._outboxes = [Outbox(channel, self.outcomes) for channel in channels_from(options)]

    @property
    def needed(self) -> bool:
        """True if any channel is configured."""
        return bool(self._outboxes)

    async def run(self) -> None:
        """Evaluate and report until cancelled; nothing is reported before the alert log has been read."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._alert_log.run())
            for outbox in self._outboxes:
                group.create_task(outbox.run())
            while True:
                if self._alert_log.is_loaded:
                    self.report(int(time.time() * 1000))
                await asyncio.sleep(EVERY_S)

    def report(self, now_ms: int) -> None:
        """Evaluate the conditions once and queue the notices that are due."""
        conditions, covers = self._evaluate()
        wanted = [condition for condition in conditions if condition.kind in self._wanted]
        for notice in self._state.evaluate(
            wanted, self._alert_log.records, lambda kind, name: kind in self._wanted and covers(kind, name), now_ms
        ):
            self._alert_log.begin(notice.condition.name, notice.record)
            message = build_message(notice, self._worker)
            logger.warning("%s: %s", message.subject, message.text)
            sent = asyncio.gather(*(outbox.put(message) for outbox in self._outboxes))
            sent.add_done_callback(partial(self._commit, notice))

    def _commit(self, notice: Notice, sent: asyncio.Future[list[None]]) -> None:
        if not sent.cancelled():
            self._alert_log.commit(notice.condition.name, notice.record)
