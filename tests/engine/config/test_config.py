"""Options: sources and their precedence, and the error for each kind of fault."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import pytest

from engine.config.load import Settings, load_settings
from engine.config.options import OPTIONS
from engine.reference.options import example_text
from topics.errors import OperatorError

NOTHING: Mapping[str, object] = {}


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "some.toml"
    path.write_text(text, encoding="utf-8")
    return path


def refusal(
    path: Path | None = None, environ: Mapping[str, str] | None = None, overrides: Mapping[str, object] = NOTHING
) -> str:
    with pytest.raises(OperatorError) as refused:
        load_settings(path, environ or {}, overrides)
    message = str(refused.value)
    assert "\n" not in message
    return message


def test_options_without_sources_have_their_defaults() -> None:
    settings = load_settings(None, {}, NOTHING)
    for option in OPTIONS:
        if option.path not in ("local.data_dir", "edge.state_dir"):
            assert getattr(getattr(settings, option.section), option.name) == option.default, option.path


def test_option_in_several_sources_is_taken_from_command_line_then_environment_then_file(tmp_path: Path) -> None:
    path = written(tmp_path, "[topics]\npartitions = 5\nreplication = 2\nprefix = 'a-'\n")
    environ = {"TIDEGATE_TOPICS_PARTITIONS": "6", "TIDEGATE_TOPICS_REPLICATION": "3"}
    topics = load_settings(path, environ, {"topics.partitions": 7, "topics.prefix": None}).topics
    assert (topics.partitions, topics.replication, topics.prefix) == (7, 3, "a-")


def test_configuration_file_is_the_named_one_then_the_environments_then_the_default(tmp_path: Path) -> None:
    for name, partitions in (("tidegate.toml", 5), ("env.toml", 6), ("named.toml", 7)):
        (tmp_path / name).write_text(f"[topics]\npartitions = {partitions}\n")
    environ = {"TIDEGATE_CONFIG": str(tmp_path / "env.toml")}
    assert load_settings(tmp_path / "named.toml", environ, NOTHING).topics.partitions == 7
    assert load_settings(None, environ, NOTHING).topics.partitions == 6
    assert load_settings(None, {}, NOTHING).topics.partitions == 5


def test_settings_assigned_raise_frozen_instance_error() -> None:
    settings = load_settings(None, {}, NOTHING)
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.model.sensitivity = "low"  # type: ignore[misc]


def test_unknown_option_is_refused_with_a_suggestion(tmp_path: Path) -> None:
    path = written(tmp_path, "[worker]\nfetch_byte = 100000\n")
    assert refusal(path) == f"{path}: unknown option worker.fetch_byte: did you mean worker.fetch_bytes?"


def test_unknown_section_is_refused_with_a_suggestion(tmp_path: Path) -> None:
    path = written(tmp_path, "[kafak]\nbootstrap = 'a:1'\n")
    assert refusal(path) == f"{path}: unknown section [kafak]: did you mean kafka?"


def test_option_outside_a_section_is_refused(tmp_path: Path) -> None:
    assert "write [kafka]" in refusal(written(tmp_path, "kafka = 'a:1'\n"))


def test_mistyped_variable_is_refused_with_a_suggestion() -> None:
    message = refusal(environ={"TIDEGATE_KAFKA_BOOTSTRP": "a:1"})
    assert message == "unknown environment variable TIDEGATE_KAFKA_BOOTSTRP: did you mean TIDEGATE_KAFKA_BOOTSTRAP?"


def test_service_variables_of_kubernetes_are_ignored() -> None:
    load_settings(
        None,
        {
            "TIDEGATE_SERVICE_HOST": "10.0.0.1",
            "TIDEGATE_SERVICE_PORT_HTTP": "80",
            "TIDEGATE_PORT": "tcp://10.0.0.1:80",
            "TIDEGATE_EDGE_PORT_80_TCP_ADDR": "10.0.0.1",
        },
        NOTHING,
    )


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("partitions = '4x'", "topics.partitions = '4x': give a whole number from 1 to 1_024"),
        ("partitions = 4.0", "topics.partitions = 4.0: give a whole number from 1 to 1_024"),
        ("partitions = true", "topics.partitions = True: give a whole number from 1 to 1_024"),
        ("partitions = 0", "topics.partitions = 0 is out of range: give a whole number from 1 to 1_024"),
        ("prefix = 4", "topics.prefix = 4: give a string"),
        ("prefix = 'a b'", "topics.prefix = 'a b' is not valid: give at most 180 letters"),
        ("retention_ms = 0", "topics.retention_ms = 0 is not valid: give -1 for unlimited, or at least 3600000"),
    ],
)
def test_invalid_value_is_refused_with_file_option_value_and_range(tmp_path: Path, line: str, expected: str) -> None:
    path = written(tmp_path, f"[topics]\n{line}\n")
    assert refusal(path).startswith(f"{path}: {expected}")


@pytest.mark.parametrize("value", ["nan", "inf", "0.004", "10.1", "", "one", "Low"])
def test_sensitivity_neither_name_nor_percentage_in_range_is_refused(value: str) -> None:
    assert refusal(environ={"TIDEGATE_MODEL_SENSITIVITY": value}).startswith(f"$TIDEGATE_MODEL_SENSITIVITY = '{value}'")


@pytest.mark.parametrize(
    ("value", "percent", "decides"),
    [
        ("low", 0.1, True),
        ("normal", 0.5, True),
        ("high", 1, True),
        ("0.25", 0.25, True),
        ("10", 10, True),
        ("off", 0.5, False),
    ],
)
def test_sensitivity_is_converted_to_a_budget(value: str, percent: float, decides: bool) -> None:
    model = load_settings(None, {}, {"model.sensitivity": value}).model
    assert (model.budget_percent, model.decides) == (percent, decides)


def test_unknown_choice_is_refused_with_all_choices() -> None:
    message = refusal(overrides={"log.level": "loud"})
    assert message == "command line: log.level = 'loud' is unknown: give one of debug, info, warning, error"


@pytest.mark.parametrize("value", ["localhost", "localhost:0", "localhost:70000", "a b:1", "a:1,,b:2", "::1:9092"])
def test_bootstrap_without_host_and_port_is_refused(value: str) -> None:
    assert "HOST:PORT" in refusal(overrides={"kafka.bootstrap": value})


@pytest.mark.parametrize("value", ["localhost:9092", "10.0.0.1:9092, b.example:9093", "[::1]:9092"])
def test_bootstrap_of_hosts_and_ports_is_accepted(value: str) -> None:
    assert load_settings(None, {}, {"kafka.bootstrap": value}).kafka.bootstrap == value


@pytest.mark.parametrize("text", ["", "two\nlines", "é", "x" * 201, "{name}", "{ip!r}", "{ip:>9}", "{", "{}", "{ip.x}"])
def test_reply_text_that_no_decision_can_fill_is_refused(text: str) -> None:
    assert "{ip}, {network}, {retry_s}" in refusal(overrides={"reply.text": text})


@pytest.mark.parametrize("status", ["4.7.499", "4.7.700", "5.7.500", "4.7.5000", ""])
def test_status_outside_the_throttling_range_is_refused(status: str) -> None:
    assert "4.7.500 to 4.7.699" in refusal(overrides={"reply.status_volume": status})


def test_password_is_not_in_repr_and_errors() -> None:
    overrides = {"kafka.security_protocol": "SASL_SSL", "kafka.sasl_username": "u", "kafka.sasl_password": "s3cret"}
    settings = load_settings(None, {}, overrides)
    assert settings.kafka.client_options()["sasl_plain_password"] == "s3cret"
    assert "s3cret" not in repr(settings)
    for wrong in ({"kafka.sasl_password": 123456}, overrides | {"kafka.sasl_username": ""}):
        message = refusal(overrides=wrong)
        assert "s3cret" not in message
        assert "123456" not in message


def test_password_without_sasl_is_refused() -> None:
    assert "SASL_SSL" in refusal(overrides={"kafka.sasl_username": "u", "kafka.sasl_password": "p"})


def test_missing_ca_file_is_refused() -> None:
    assert "no such file" in refusal(overrides={"kafka.ssl_cafile": "none.pem"})


def test_rows_per_partition_are_rounded_up_to_a_power_of_two() -> None:
    for given, taken in ((1024, 1024), (1025, 2048), (1 << 26, 1 << 26)):
        settings = load_settings(None, {}, {"worker.rows_per_partition": given})
        assert settings.worker.rows_per_partition == taken


def test_broker_folder_unset_is_in_the_cache_folder(tmp_path: Path) -> None:
    cache = {"TIDEGATE_CACHE_DIR": str(tmp_path)}
    assert load_settings(None, cache, NOTHING).local.data_dir == str(tmp_path / "broker")
    assert load_settings(None, {}, NOTHING).local.data_dir == str(Path.home() / ".cache/tidegate/broker")
    assert load_settings(None, cache, {"local.data_dir": "~/x"}).local.data_dir == str(Path.home() / "x")


@pytest.mark.parametrize(
    ("content", "expected"),
    [(b"[topics", "is not valid TOML"), (b"\xff", "is not valid TOML"), (None, "can't be read")],
)
def test_file_that_is_not_toml_is_refused(tmp_path: Path, content: bytes | None, expected: str) -> None:
    path = tmp_path / "bad.toml"
    if content is not None:
        path.write_bytes(content)
    assert refusal(path).startswith(f"configuration file {path} {expected}")


def hashed(**overrides: object) -> str:
    return load_settings(
        None, {}, {name.replace("_", ".", 1): value for name, value in overrides.items()}
    ).config_hash()


def test_config_hash_depends_on_deciding_options_only() -> None:
    plain = hashed()
    assert hashed(model_sensitivity="low") != plain
    assert hashed(model_learning_days=0) != plain
    assert hashed(topics_partitions=8) != plain
    assert hashed(worker_event_time_window_s=60) != plain
    assert hashed(model_detector="river") != plain != hashed(river_window_s=60)
    assert hashed(topics_prefix="x", worker_app_id="y", local_port=1, kafka_bootstrap="a:1") == plain
    assert hashed(model_learning_days="7") == hashed(model_learning_days=7) == plain


def test_config_hash_of_defaults_is_unchanged() -> None:
    assert Settings().config_hash() == "fb69be8720bab19af8306d88c82fa707c2ce3b94a900ffad46d0e68fe1a5088a"


def test_example_file_commented_or_uncommented_gives_the_defaults(tmp_path: Path) -> None:
    example = example_text()
    assert load_settings(written(tmp_path, example), {}, NOTHING) == load_settings(None, {}, NOTHING)
    options = {f"# {option.name} = " for option in OPTIONS}
    lines = [line[2:] if line.startswith(tuple(options)) else line for line in example.splitlines()]
    assert load_settings(written(tmp_path, "\n".join(lines)), {}, NOTHING) == load_settings(None, {}, NOTHING)
    assert sum(line[:1] not in ("#", "[", "") for line in lines) == len(OPTIONS)
