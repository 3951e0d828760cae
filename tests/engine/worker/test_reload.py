"""A running worker applies another configuration whole and between two blocks, or refuses it whole."""

from __future__ import annotations

import asyncio
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from faust.types import TP

from engine.cli import main
from engine.config.dump import HIDDEN, effective_options, toml_text
from engine.config.load import Settings, load_settings
from engine.config.options import OPTIONS
from engine.decisions.override_index import OverrideIndex
from engine.kafka import follow
from engine.pipeline import build
from engine.worker.apply import BlockApplier
from engine.worker.reload import Reloader, changed_options
from engine.worker.shard import Shard
from engine.worker.shards import Shards
from tests.support.bench import RecordingPublisher, shard_of
from topics.errors import OperatorError

RELAYS = {"esp": ("192.0.2.0/24",), "a.b": ("198.51.100.0/24",)}


def settings_of(**overrides: object) -> Settings:
    paths = {name.replace("_", ".", 1): value for name, value in overrides.items()}
    return load_settings(None, {}, {"kafka.bootstrap": "127.0.0.1:1", **paths})


BEFORE = settings_of()


async def nothing(*_: object) -> int:
    return 0


async def flushed() -> None:
    return None


def fail(error: BaseException) -> None:
    raise error


class OneOwned(Shards):
    """A worker's shards, of which one is ready."""

    def __init__(self, shard: Shard) -> None:
        super().__init__(BEFORE, OverrideIndex(), flushed, fail)
        self._only = shard

    def __iter__(self) -> Iterator[Shard]:
        return iter([self._only])


class Worker:
    """A worker with one partition, without Kafka. ``file`` is the content of its configuration file, or its error."""

    def __init__(self, file: Settings | OperatorError) -> None:
        self.file = file
        self.partition = build.partition(BEFORE, 1)
        self.shard = shard_of(self.partition)
        self.shards = OneOwned(self.shard)
        applier = BlockApplier(self.shards, RecordingPublisher(), nothing)
        self.reloader = Reloader(BEFORE, self.shards, applier, self.read)

    def read(self) -> Settings:
        if isinstance(self.file, OperatorError):
            raise self.file
        return self.file


async def test_thresholds_replies_and_relays_are_applied_and_state_is_kept() -> None:
    after = replace(settings_of(model_sensitivity="high", reply_text="Later, [{ip}]."), relays=RELAYS)
    worker = Worker(after)
    worker.partition.state.site["threshold_scale"] = 1.25
    state, before = worker.partition.state, worker.shards.composer

    outcome = await worker.reloader.reload()

    assert outcome.applied, outcome.text
    assert worker.partition.state is state
    assert worker.partition.policy.threshold == build.policy(after, 1).threshold != build.policy(BEFORE, 1).threshold
    assert worker.partition.threshold == worker.partition.policy.threshold * 1.25
    assert len(worker.partition.policy.relays.first) == 2
    assert worker.shards.composer == build.composer(after) != before
    assert "(model.sensitivity, reply.text, relays) is active from now on; partitions: 1 after -1" in outcome.text


async def test_standbys_before_and_after_a_reload_have_its_policy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "RETRY_S", 0.0)
    after = settings_of(model_sensitivity="high")
    worker = Worker(after)
    worker.shards.assign([], [TP("connections", 0)])

    assert (await worker.reloader.reload()).applied
    worker.shards.assign([], [TP("connections", 0), TP("connections", 2)])

    thresholds = {replica.partition.number: replica.partition.policy.threshold for replica in worker.shards.standbys()}
    await worker.shards.stop()
    assert thresholds == dict.fromkeys((0, 2), build.policy(after, 0).threshold)


async def test_reload_waits_for_the_block_at_work() -> None:
    worker = Worker(settings_of(model_sensitivity="low"))
    policy, composer = worker.partition.policy, worker.shards.composer

    async with worker.shard.applying:
        reloading = asyncio.create_task(worker.reloader.reload())
        await asyncio.sleep(0.05)
        assert worker.partition.policy is policy
        assert worker.shards.composer is composer

    assert (await reloading).applied
    assert worker.partition.policy is not policy
    assert worker.shards.composer is not composer


@pytest.mark.parametrize(
    ("file", "reason"),
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
async def test_invalid_configuration_or_one_that_needs_a_restart_is_refused_whole(
    file: Settings | OperatorError, reason: str
) -> None:
    worker = Worker(file)
    policy, composer = worker.partition.policy, worker.shards.composer

    outcome = await worker.reloader.reload()

    assert (outcome.applied, outcome.number) == (False, 1)
    assert reason in outcome.text
    assert worker.partition.policy is policy
    assert worker.shards.composer is composer
    assert worker.reloader.settings is BEFORE


async def test_reload_after_a_refusal_is_applied_and_the_next_one_finds_no_change() -> None:
    worker = Worker(OperatorError("not valid"))
    await worker.reloader.reload()

    worker.file = settings_of(model_sensitivity="high")

    assert (await worker.reloader.reload()).applied
    assert (await worker.reloader.reload()).text == "nothing has changed in the configuration"


def test_changed_options_names_every_difference() -> None:
    other = replace(settings_of(log_level="debug"), relays=RELAYS)

    assert changed_options(BEFORE, BEFORE) == []
    assert changed_options(BEFORE, other) == ["log.level", "relays"]


def test_reloadable_options_leave_the_shape_of_the_state() -> None:
    reloadable = {option.path for option in OPTIONS if option.rule.reloads}

    assert reloadable >= {"model.sensitivity", "model.wide_pools", "reply.text"}
    assert not {path for path in reloadable if path.startswith(("kafka.", "topics.", "worker.", "edge.", "local."))}


def test_shown_configuration_loads_as_itself(tmp_path: Path) -> None:
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


def test_config_command_shows_hash_and_options(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"# config: sha256:{load_settings(None, {}, {}).config_hash()}\n")
    assert tomllib.loads(shown)["model"]["sensitivity"] == "normal"
