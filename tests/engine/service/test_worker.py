"""The worker's process: the page and the alerts as companions of the app, as far as they are configured."""

from __future__ import annotations

import pytest
from aiokafka import ConsumerRecord

from engine.config.load import load_settings
from engine.service.worker import companions_of
from engine.worker.app import Companion, Tidegate, create_app
from topics.overrides import CONNECTOR, EXEMPT, Override, encode_override


def app_of(**options: str) -> tuple[Tidegate, list[Companion]]:
    made: list[Companion] = []

    def companions(app: Tidegate) -> list[Companion]:
        made.extend(companions_of(app))
        return made

    paths = {name.replace("_", ".", 1): value for name, value in options.items()}
    app = create_app(load_settings(None, {}, {"kafka.bootstrap": "127.0.0.1:1", **paths}), companions=companions)
    return app, made


@pytest.mark.parametrize(
    ("options", "running"),
    [
        ({"worker_http": ""}, []),
        ({"worker_http": "127.0.0.1:0"}, ["DecisionLog.run", "RateHistory.run"]),
        ({"worker_http": "", "notify_webhook": "http://127.0.0.1:9/"}, ["DecisionLog.run", "Notifier.run"]),
    ],
)
async def test_only_configured_companions_run(options: dict[str, str], running: list[str]) -> None:
    _, companions = app_of(**options)

    runs = [companion.run.__qualname__ for companion in companions]

    assert [name for name in runs if name != "_nothing"] == running


async def test_worker_announces_the_address_of_its_page_once_it_listens() -> None:
    app, companions = app_of(worker_http="127.0.0.1:0")

    for companion in companions:
        await companion.start()
    announced = app.conf.canonical_url
    for companion in companions:
        await companion.stop()

    assert announced.host == "127.0.0.1"
    assert announced.explicit_port


async def test_worker_without_a_page_announces_none() -> None:
    app, companions = app_of(worker_http="")

    for companion in companions:
        await companion.start()
        await companion.stop()

    assert app.conf.canonical_url.host == "nowhere.invalid"


async def test_page_subscribes_to_the_overrides(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    monkeypatch.setattr(
        "engine.web.decision_log.DecisionLog.apply_override", lambda _, record: seen.append(record.network)
    )
    app, _ = app_of(worker_http="127.0.0.1:0")
    override = Override("192.0.2.0/24", EXEMPT, CONNECTOR, 1, None)
    value = encode_override(override)

    app.overrides.add([ConsumerRecord("exemptions", 0, 0, 1, 0, b"192.0.2.0/24", value, None, 0, 0, ())])

    assert seen == ["192.0.2.0/24"]
