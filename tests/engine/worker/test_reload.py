"""A running worker takes another configuration whole and between two blocks, or refuses it whole; what holds can be shown."""

from __future__ import annotations

import asyncio
import tomllib
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from engine.cli import main
from engine.config.dump import HIDDEN, effective_options, toml_text
from engine.config.load import Settings, load_settings
from engine.config.options import OPTIONS
from engine.pipeline import build
from engine.worker.app import create_app
from engine.worker.reload import Reloader, changed
from engine.worker.shard import Shard
from topics.errors import OperatorError

RELAYS = {"esp": ("192.0.2.0/24",), "a.b": ("198.51.100.0/24",)}


def settings_of(**overrides: object) -> Settings:
    paths = {name.replace("_", ".", 1): value for name, value in overrides.items()}
    return load_settings(None, {}, {"kafka.bootstrap": "nowhere.invalid:9092", **paths})


BEFORE = settings_of()


class Worker:
    """A worker's engine with one partition, without Kafka; ``read`` gives what the file says."""

    def __init__(self, said: Settings | OperatorError) -> None:
        self.said = said
        self.app = create_app(BEFORE, self.read)
        self.partition = build.partition(BEFORE, 1)
        self.shard = Shard(cast(Any, SimpleNamespace(partition=self.partition)), cast(Any, None), cast(Any, None))
        self.app.shards._ready[1] = self.shard

    def read(self) -> Settings:
        if isinstance(self.said, OperatorError):
            raise self.said
        return self.said

    @property
    def reloader(self) -> Reloader:
        return self.app.reloader


async def test_thresholds_replies_and_relays_are_taken_and_state_is_kept() -> None:
    after = replace(settings_of(model_sensitivity="high", reply_text="Later, [{ip}]."), relays=RELAYS)
    worker = Worker(after)
    worker.partition.state.site["threshold_scale"] = 1.25
    state, before = worker.partition.state, worker.app.engine.composer
    found = await worker.reloader.reload()
    assert found.applied, found.text
    assert worker.partition.state is state
    assert worker.partition.policy.threshold == build.policy(after, 1).threshold != build.policy(BEFORE, 1).threshold
    assert worker.partition.threshold == worker.partition.policy.threshold * 1.25
    assert len(worker.partition.policy.relays.first) == 2
    assert worker.app.engine.composer == build.composer(after) != before
    assert "(model.sensitivity, reply.text, relays) holds from now on; partitions: 1 behind -1" in found.text
    assert worker.app.shards._empty(0).policy.threshold == worker.partition.policy.threshold


async def test_it_waits_for_the_block_at_work_and_turns_all_at_once() -> None:
    worker = Worker(settings_of(model_sensitivity="low"))
    policy, composer = worker.partition.policy, worker.app.engine.composer
    async with worker.shard.applying:
        reloading = asyncio.create_task(worker.reloader.reload())
        await asyncio.sleep(0.05)
        assert worker.partition.policy is policy
        assert worker.app.engine.composer is composer
    assert (await reloading).applied
    assert worker.partition.policy is not policy
    assert worker.app.engine.composer is not composer


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (
            settings_of(model_sensitivity="high", worker_rows_per_partition=2048),
            "worker.rows_per_partition changed, which needs",
        ),
        (
            settings_of(model_sensitivity="high", model_detector="river"),
            "model.detector changed, which needs a restart",
        ),
        (OperatorError("tidegate.toml: model.sensitivity = 'x' is not valid"), "model.sensitivity = 'x' is not valid"),
    ],
)
async def test_what_is_wrong_or_needs_a_restart_is_refused_whole(said: Settings | OperatorError, why: str) -> None:
    worker = Worker(said)
    policy, composer = worker.partition.policy, worker.app.engine.composer
    found = await worker.reloader.reload()
    assert (found.applied, found.number) == (False, 1)
    assert why in found.text
    assert worker.partition.policy is policy
    assert worker.app.engine.composer is composer
    assert worker.reloader.settings is BEFORE
    worker.said = settings_of(model_sensitivity="high")
    assert (await worker.reloader.reload()).applied
    assert (await worker.reloader.reload()).text == "nothing has changed in the configuration"


def test_every_difference_is_seen() -> None:
    assert changed(BEFORE, BEFORE) == []
    other = replace(settings_of(log_level="debug"), relays=RELAYS)
    assert changed(BEFORE, other) == ["log.level", "relays"]


def test_what_turns_changes_no_state_of_another_shape() -> None:
    turning = {option.path for option in OPTIONS if option.rule.reloads}
    assert turning >= {"model.sensitivity", "model.wide_pools", "reply.text"}
    assert not {path for path in turning if path.startswith(("kafka.", "topics.", "worker.", "edge.", "local."))}


def test_the_configuration_shown_leads_to_itself(tmp_path: Path) -> None:
    settings = replace(settings_of(model_sensitivity="0.25", log_level="warning"), relays=RELAYS)
    file = tmp_path / "shown.toml"
    file.write_text(toml_text(effective_options(settings)), encoding="utf-8")
    assert load_settings(file, {}, {}) == settings


def test_secrets_are_not_shown() -> None:
    given = {
        "kafka.security_protocol": "SASL_SSL", "kafka.sasl_username": "u", "kafka.sasl_password": "s3cret",
    }  # fmt: skip
    shown = toml_text(effective_options(load_settings(None, {}, given)))
    assert "s3cret" not in shown
    assert tomllib.loads(shown)["kafka"]["sasl_password"] == HIDDEN


def test_the_command_shows_hash_and_options(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"# config: sha256:{load_settings(None, {}, {}).config_hash()}\n")
    assert tomllib.loads(shown)["model"]["sensitivity"] == "normal"
