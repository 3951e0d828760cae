"""Load options from all sources into one frozen, checked `Settings`.

The first source that sets an option wins:

1. the command line
2. the environment, ``TIDEGATE_<SECTION>_<OPTION>``
3. one TOML file: ``--config``, else ``$TIDEGATE_CONFIG``, else ``tidegate.toml`` in the working directory if it exists
4. the default

Relays are read from the file only. Every fault (unknown name, wrong type, value out of range, options that contradict each
other) is one `OperatorError` that names the source, the option, the value and the expected form.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.config.kafka_options import KafkaOptions
from engine.config.option import Option
from engine.config.options import OPTIONS, SECTIONS, Settings
from engine.config.relays import parse_relays
from topics.errors import OperatorError

__all__ = ["Settings", "load_settings"]

PREFIX = "TIDEGATE_"
OTHER_VARIABLES = frozenset({"TIDEGATE_CONFIG", "TIDEGATE_CACHE_DIR", "TIDEGATE_SHARED"})
KUBERNETES = re.compile(  # set by Kubernetes in every pod of a namespace with a service named tidegate*
    r"TIDEGATE_\w*(SERVICE_(HOST|PORT\w*)=.*|PORT_\d+_\w+=.*|PORT=(tcp|udp|sctp)://.*)"
)
RELAYS = "relays"
FILE_NAME = "tidegate.toml"
KIND_NAMES = {int: "a whole number", float: "a number", str: "a string"}


@dataclass(frozen=True, slots=True)
class Given:
    """A value that a source sets."""

    value: object
    origin: str  # source, option and value, for errors


def load_settings(path: Path | None, environ: Mapping[str, str], overrides: Mapping[str, object]) -> Settings:
    """Return the effective settings.

    `path` is the file of ``--config``, or None. `overrides` are the command line's values by path (``"kafka.bootstrap"``);
    None means not set. Raises `OperatorError`.
    """
    file = _choose_file(path, environ)
    content = _read_toml(file)
    relays = parse_relays(content.pop(RELAYS, {}), str(file))
    given = _from_file(content, file) | _from_environment(environ) | _from_command_line(overrides)
    values: dict[str, dict[str, Any]] = {section: {} for section in SECTIONS}
    for option in OPTIONS:
        value = given.get(option.path)
        values[option.section][option.name] = option.default if value is None else _check(option, value)
    _complete(values, environ)
    return Settings(**{name: declared(**values[name]) for name, declared in SECTIONS.items()}, relays=relays)


def _choose_file(path: Path | None, environ: Mapping[str, str]) -> Path | None:
    if path is not None:
        return path
    if environ.get("TIDEGATE_CONFIG"):
        return Path(environ["TIDEGATE_CONFIG"])
    default = Path(FILE_NAME)
    return default if default.is_file() else None


def _read_toml(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise OperatorError(f"configuration file {path} can't be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise OperatorError(f"configuration file {path} is not valid TOML: {error}") from error


def _from_file(content: dict[str, Any], path: Path | None) -> dict[str, Given]:
    given: dict[str, Given] = {}
    for section, options in content.items():
        if section not in SECTIONS:
            raise OperatorError(f"{path}: unknown section [{section}]{_suggest(section, [*SECTIONS, RELAYS])}")
        if not isinstance(options, dict):
            raise OperatorError(f"{path}: {section} must be a section: write [{section}] and its options below")
        for name, value in options.items():
            _refuse_unknown(f"{section}.{name}", f"{path}: ")
            given[f"{section}.{name}"] = Given(value, f"{path}: {section}.{name} = {value!r}")
    return given


def _from_environment(environ: Mapping[str, str]) -> dict[str, Given]:
    paths = {option.variable: option.path for option in OPTIONS}
    given = {}
    for variable in sorted(environ):
        if variable in paths:
            given[paths[variable]] = Given(environ[variable], f"${variable} = {environ[variable]!r}")
        elif variable.startswith(PREFIX) and variable not in OTHER_VARIABLES and not _is_service(variable, environ):
            raise OperatorError(f"unknown environment variable {variable}{_suggest(variable, paths)}")
    return given


def _is_service(variable: str, environ: Mapping[str, str]) -> bool:
    return KUBERNETES.fullmatch(f"{variable}={environ[variable]}") is not None


def _from_command_line(overrides: Mapping[str, object]) -> dict[str, Given]:
    given = {}
    for path, value in overrides.items():
        if value is not None:
            _refuse_unknown(path, "command line: ")
            given[path] = Given(value, f"command line: {path} = {value!r}")
    return given


def _refuse_unknown(path: str, prefix: str) -> None:
    paths = [option.path for option in OPTIONS]
    if path not in paths:
        raise OperatorError(f"{prefix}unknown option {path}{_suggest(path, paths)}")


def _suggest(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.75)
    return f": did you mean {close[0]}?" if close else ": deploy/CONFIGURATION.md lists all options"


def _check(option: Option, given: Given) -> Any:
    """Return the value, converted to the option's type and checked by its rule."""
    rule, value = option.rule, _convert(option, given.value)
    origin = f"{given.origin.partition(' = ')[0]} = (not shown)" if rule.secret else given.origin
    if value is None:
        raise OperatorError(f"{origin}: give {KIND_NAMES[option.kind]}{_bounds(option)}")
    if not ((rule.low is None or rule.low <= value) and (rule.high is None or value <= rule.high)):
        raise OperatorError(f"{origin} is out of range: give {KIND_NAMES[option.kind]}{_bounds(option)}")
    if rule.choices and value not in rule.choices:
        raise OperatorError(f"{origin} is unknown: give one of {', '.join(rule.choices)}")
    if rule.validate is not None and (expected := rule.validate(value)):
        raise OperatorError(f"{origin} is not valid: give {expected}")
    return value


def _bounds(option: Option) -> str:
    return "" if option.rule.low is None else f" from {option.rule.low:,} to {option.rule.high:,}".replace(",", "_")


def _convert(option: Option, value: object) -> Any:
    """Return the value in the option's type, None if it doesn't convert. Numbers may be strings, floats whole numbers."""
    if option.kind is str or isinstance(value, bool):
        return value if isinstance(value, str) else None
    if isinstance(value, str) or (option.kind is float and isinstance(value, int)):
        try:
            return option.kind(value)
        except (ValueError, OverflowError):
            return None
    return value if isinstance(value, option.kind) else None


def _complete(values: dict[str, dict[str, Any]], environ: Mapping[str, str]) -> None:
    """Fill in values derived from others, and refuse options that contradict each other."""
    kafka, worker, local = values["kafka"], values["worker"], values["local"]
    KafkaOptions(**kafka).check()
    notify = values["notify"]
    if notify["mail_to"] and not (notify["mail_from"] and notify["smtp"]):
        raise OperatorError("notify.mail_to needs notify.mail_from and notify.smtp: give both")
    worker["rows_per_partition"] = 1 << (worker["rows_per_partition"] - 1).bit_length()
    cache = environ.get("TIDEGATE_CACHE_DIR") or "~/.cache/tidegate"
    local["data_dir"] = str(Path(local["data_dir"] or f"{cache}/broker").expanduser())
    values["edge"]["state_dir"] = str(Path(values["edge"]["state_dir"] or f"{cache}/edge").expanduser())
