"""The notifier reports each condition once, retries deliveries, and commits a notice once it is delivered."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator

import orjson
import pytest

from engine.alerts import notifier as notifier_module
from engine.alerts.alert_log import AlertLog
from engine.alerts.alert_state import BEGUN, OVER, AlertRecord, AlertState
from engine.alerts.channels import (
    AlertMessage,
    WebhookChannel,
)
from engine.alerts.conditions import Condition
from engine.alerts.notifier import Notifier, Outbox, build_message
from engine.config.load import load_settings
from tests.support.alerts import LAG, Receiver, all_visible
from tests.support.sequences import START_MS
from topics.errors import OperatorError


async def test_failed_delivery_is_retried_with_the_same_id(
    receiver: tuple[Receiver, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notifier_module, "FIRST_RETRY_S", 0.01)
    hook, url = receiver
    hook.statuses = [500, 429, 200, 404]
    outcomes: Counter[tuple[str, str]] = Counter()
    outbox = Outbox(WebhookChannel(url, ""), outcomes)
    running = asyncio.create_task(outbox.run())
    for name in ("first", "second"):
        outbox.put(AlertMessage(name, name, {"id": name}))
    await hook.wait(4)
    async with asyncio.timeout(30):
        while outcomes.total() < 2:  # noqa: ASYNC110 (there is no event to await)
            await asyncio.sleep(0.01)
    running.cancel()
    assert [orjson.loads(body)["id"] for _, body in hook.requests] == ["first", "first", "first", "second"]
    assert outcomes == {("webhook", "delivered"): 1, ("webhook", "refused"): 1}


async def test_full_outbox_drops_the_oldest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notifier_module, "MAX_WAITING", 2)
    outcomes: Counter[tuple[str, str]] = Counter()
    outbox = Outbox(WebhookChannel("http://127.0.0.1:9/", ""), outcomes)
    sent = [outbox.put(AlertMessage(name, name, {"id": name})) for name in "abc"]
    assert [message.text for _, message, _ in outbox._waiting] == ["b", "c"]
    assert [done.done() for done in sent] == [True, False, False]
    assert outcomes == {("webhook", "dropped"): 1}


async def test_notifier_reports_wanted_conditions_once(receiver: tuple[Receiver, str]) -> None:
    hook, url = receiver
    other = Condition("edge mx1", "edge", "silent", "alive")
    presence: list[list[Condition]] = [[LAG, other], [LAG, other], [other], [], []]
    evaluations: Iterator[list[Condition]] = iter(presence)
    options = load_settings(None, {}, {"notify.webhook": url, "notify.on": "lag", "notify.hold_s": 0}).notify
    log = CommitList()
    notifier = Notifier(options, "mx 7", log, lambda: (next(evaluations), all_visible))
    running = asyncio.create_task(notifier._outboxes[0].run())

    for second in range(len(presence)):
        notifier.report(START_MS + 1000 * second)

    assert (log.records, log.commits) == ({}, [])  # nothing is committed before it is delivered
    await hook.wait(2)
    async with asyncio.timeout(30):
        while len(log.commits) < 2:  # noqa: ASYNC110 (there is no event to await)
            await asyncio.sleep(0.01)
    running.cancel()
    assert log.commits == [(LAG.name, AlertRecord("lag", "caught up", START_MS, START_MS)), (LAG.name, None)]
    bodies = [orjson.loads(body) for _, body in hook.requests]
    assert [(body["name"], body["state"], body["text"]) for body in bodies] == [
        ("lag 0", BEGUN, "partition 0 lags"),
        ("lag 0", OVER, "caught up"),
    ]


class CommitList(AlertLog):
    """An alert log whose topic is a list."""

    def __init__(self) -> None:
        super().__init__("notices", {})
        self.commits: list[tuple[str, AlertRecord | None]] = []

    def commit(self, name: str, record: AlertRecord | None) -> None:
        self.commits.append((name, record))


def test_message_id_depends_on_condition_beginning_and_state_but_not_on_the_worker() -> None:
    (begun,) = AlertState(0, 10_000).evaluate([LAG], {}, all_visible, 1)
    records = {LAG.name: AlertRecord(LAG.kind, LAG.over_text, 1, 1)}
    (over,) = AlertState(0, 10_000).evaluate([], records, all_visible, 2)
    repeated = [AlertState(0, 1).evaluate([LAG], records, all_visible, at)[0] for at in (5, 6)]

    ids = [build_message(notice, "w").fields["id"] for notice in (begun, over, *repeated)]

    assert len(set(ids)) == 4
    assert ids == [build_message(notice, "another").fields["id"] for notice in (begun, over, *repeated)]


def test_notifier_without_channels_is_not_needed() -> None:
    options = load_settings(None, {}, {}).notify

    assert not Notifier(options, "w", CommitList(), lambda: ([], all_visible)).needed


@pytest.mark.parametrize(
    ("option", "value", "expected"),
    [
        ("on", "budget,rain", "a comma-separated list of breaker, budget, edge, lag, watch"),
        ("watch", "192.0.2.1/24", "networks such as"),
        ("webhook", "ftp://example.org", "an http or https"),
        ("mail_to", "ops", "mail addresses"),
        ("mail_to", " , ", "mail addresses"),
        ("on", ",", "a comma-separated list of breaker"),
    ],
)
def test_invalid_option_is_refused_with_the_expected_form(option: str, value: str, expected: str) -> None:
    with pytest.raises(OperatorError, match=expected):
        load_settings(None, {}, {f"notify.{option}": value})
