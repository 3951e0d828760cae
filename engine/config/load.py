"""Raw options to one frozen, checked `Settings`.

An option comes from the command line, else from the environment (``TIDEGATE_<SECTION>_<OPTION>``), else from one TOML file
(``--config``, else ``$TIDEGATE_CONFIG``, else ``tidegate.toml`` in the working directory if it is there), else it has its
default. Announced relays stand in the file alone. Whatever is wrong (an unknown name, a wrong type, a value out of range,
options that don't go together) is one `OperatorError` that names the file or variable, the option, the value, the range,
and what to do.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.config.option import Option
from engine.config.options import OPTIONS, SECTIONS, Settings
from engine.config.relays import announced
from topics.errors import OperatorError

__all__ = ["Settings", "load_settings"]

PREFIX = "TIDEGATE_"
OTHER_VARIABLES = frozenset({"TIDEGATE_CONFIG", "TIDEGATE_CACHE_DIR", "TIDEGATE_SHARED"})
KUBERNETES = re.compile(  # what is set in every pod beside a service whose name begins with tidegate
    r"TIDEGATE_\w*(SERVICE_(HOST|PORT\w*)=.*|PORT_\d+_\w+=.*|PORT=(tcp|udp|sctp)://.*)"
)
RELAYS = "relays"
FILE_NAME = "tidegate.toml"
ARTICLES = {int: "a whole number", float: "a number", str: "a text"}


@dataclass(frozen=True, slots=True)
class Given:
    """A value that somebody gave. ``said``: where and how, for messages."""

    value: object
    said: str


def load_settings(path: Path | None, environ: Mapping[str, str], overrides: Mapping[str, object]) -> Settings:
    """The settings in force. ``path``: the file that the command line names, None if it names none; ``overrides``: what the
    command line says, by path (``"kafka.bootstrap"``), where None means nothing. Raises `OperatorError`."""
    file = _chosen_file(path, environ)
    content = _content(file)
    relays = announced(content.pop(RELAYS, {}), str(file))
    given = _from_file(content, file) | _from_environment(environ) | _from_command_line(overrides)
    values: dict[str, dict[str, Any]] = {section: {} for section in SECTIONS}
    for option in OPTIONS:
        found = given.get(option.path)
        values[option.section][option.name] = option.default if found is None else _checked(option, found)
    _complete(values, environ)
    return Settings(**{name: declared(**values[name]) for name, declared in SECTIONS.items()}, relays=relays)


def _chosen_file(path: Path | None, environ: Mapping[str, str]) -> Path | None:
    if path is not None:
        return path
    if environ.get("TIDEGATE_CONFIG"):
        return Path(environ["TIDEGATE_CONFIG"])
    beside = Path(FILE_NAME)
    return beside if beside.is_file() else None


def _content(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise OperatorError(f"configuration file {path} can't be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise OperatorError(f"configuration file {path} is no valid TOML: {error}") from error


def _from_file(content: dict[str, Any], path: Path | None) -> dict[str, Given]:
    given: dict[str, Given] = {}
    for section, options in content.items():
        if section not in SECTIONS:
            raise OperatorError(f"{path}: unknown section [{section}]{_instead(section, [*SECTIONS, 'relays'])}")
        if not isinstance(options, dict):
            raise OperatorError(f"{path}: {section} must be a section: write [{section}] and its options below")
        for name, value in options.items():
            _known(f"{section}.{name}", f"{path}: ")
            given[f"{section}.{name}"] = Given(value, f"{path}: {section}.{name} = {value!r}")
    return given


def _from_environment(environ: Mapping[str, str]) -> dict[str, Given]:
    paths = {option.variable: option.path for option in OPTIONS}
    given = {}
    for variable in sorted(environ):
        if variable in paths:
            given[paths[variable]] = Given(environ[variable], f"${variable} = {environ[variable]!r}")
        elif variable.startswith(PREFIX) and variable not in OTHER_VARIABLES and not _is_service(variable, environ):
            raise OperatorError(f"unknown environment variable {variable}{_instead(variable, paths)}")
    return given


def _is_service(variable: str, environ: Mapping[str, str]) -> bool:
    return KUBERNETES.fullmatch(f"{variable}={environ[variable]}") is not None


def _from_command_line(overrides: Mapping[str, object]) -> dict[str, Given]:
    given = {}
    for path, value in overrides.items():
        if value is not None:
            _known(path, "command line: ")
            given[path] = Given(value, f"command line: {path} = {value!r}")
    return given


def _known(path: str, where: str) -> None:
    paths = [option.path for option in OPTIONS]
    if path not in paths:
        raise OperatorError(f"{where}unknown option {path}{_instead(path, paths)}")


def _instead(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.75)
    return f": did you mean {close[0]}?" if close else ": deploy/CONFIGURATION.md lists all that there are"


def _checked(option: Option, given: Given) -> Any:
    """The value in the option's type and range."""
    rule, value = option.rule, _typed(option, given.value)
    said = f"{given.said.partition(' = ')[0]} = (not shown)" if rule.secret else given.said
    if value is None:
        raise OperatorError(f"{said}: give {ARTICLES[option.kind]}{_bounds(option)}")
    if not ((rule.low is None or rule.low <= value) and (rule.high is None or value <= rule.high)):
        raise OperatorError(f"{said} is out of range: give {ARTICLES[option.kind]}{_bounds(option)}")
    if rule.choices and value not in rule.choices:
        raise OperatorError(f"{said} is unknown: give one of {', '.join(rule.choices)}")
    if rule.wanted is not None and (wanted := rule.wanted(value)):
        raise OperatorError(f"{said} is not valid: give {wanted}")
    return value


def _bounds(option: Option) -> str:
    return "" if option.rule.low is None else f" from {option.rule.low:,} to {option.rule.high:,}".replace(",", "_")


def _typed(option: Option, value: object) -> Any:
    """The value in the option's type, None if it has none: a number may come as text, a float as a whole number."""
    if option.kind is str or isinstance(value, bool):
        return value if isinstance(value, str) else None
    if isinstance(value, str) or (option.kind is float and isinstance(value, int)):
        try:
            return option.kind(value)
        except (ValueError, OverflowError):
            return None
    return value if isinstance(value, option.kind) else None


def _complete(values: dict[str, dict[str, Any]], environ: Mapping[str, str]) -> None:
    """Fill in what follows from other values, and refuse what doesn't go together."""
    kafka, worker, local = values["kafka"], values["worker"], values["local"]
    named, secret = bool(kafka["sasl_username"]), bool(kafka["sasl_password"])
    if not ("SASL" in kafka["security_protocol"]) == named == secret:
        raise OperatorError(
            f"kafka.security_protocol = {kafka['security_protocol']} goes with kafka.sasl_username and kafka.sasl_password "
            "both given for SASL_PLAINTEXT and SASL_SSL, and with neither otherwise"
        )
    notify = values["notify"]
    if notify["mail_to"] and not (notify["mail_from"] and notify["smtp"]):
        raise OperatorError("notify.mail_to goes with notify.mail_from and notify.smtp: give both")
    if kafka["ssl_cafile"] and not Path(kafka["ssl_cafile"]).is_file():
        raise OperatorError(f"kafka.ssl_cafile = {kafka['ssl_cafile']!r}: there is no such file")
    worker["rows_per_partition"] = 1 << (worker["rows_per_partition"] - 1).bit_length()
    cache = environ.get("TIDEGATE_CACHE_DIR") or "~/.cache/tidegate"
    local["data_dir"] = str(Path(local["data_dir"] or f"{cache}/broker").expanduser())
    values["edge"]["state_dir"] = str(Path(values["edge"]["state_dir"] or f"{cache}/edge").expanduser())
