"""What all commands share: common options, groups of options, the settings, and the log."""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import click

from engine.config.load import Settings, load_settings
from topics.errors import OperatorError

Command = TypeVar("Command", bound=Callable[..., Any])

LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
NO_CLUSTER = "no Kafka given: pass --bootstrap HOST:PORT or set kafka.bootstrap (`tidegate up` starts its own broker)"


@dataclass(frozen=True, slots=True)
class Invocation:
    """Options given before the command's name, and damage of input files that the exit status has to show."""

    config: Path | None = None
    verbose: bool = False
    damage: list[str] = field(default_factory=list)  # a sentence for each input file that is cut or damaged


def bootstrap_option(command: Command) -> Command:
    """Add ``--bootstrap`` as parameter `bootstrap: str | None`; pass it to `settings_from` as `kafka_bootstrap`."""
    return click.option(
        "--bootstrap",
        metavar="HOST:PORT",
        help="Kafka brokers, comma-separated.  [default: kafka.bootstrap of the configuration]",
    )(command)


def url_option(command: Command) -> Command:
    """Add ``--url`` as parameter `url: str | None`: the worker's HTTP address."""
    return click.option(
        "--url", metavar="URL", help="HTTP address of the worker.  [default: first address of worker.http]"
    )(command)


def option_group(
    parameter: str, group: Any, *options: Callable[[Callable[..., Any]], Callable[..., Any]]
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return a decorator that adds `options` and passes them to the command as one parameter.

    `group` is a NamedTuple with a field for each option's parameter name. Options appear in help in the given order.
    """

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(command)
        def run(*arguments: Any, **values: Any) -> Any:
            chosen = group(**{name: values.pop(name) for name in group._fields})
            return command(*arguments, **{parameter: chosen}, **values)

        grouped: Callable[..., Any] = run
        for option in reversed(options):
            grouped = option(grouped)
        return grouped

    return decorate


def settings_from(ctx: click.Context, **overrides: object) -> Settings:
    """Return the effective settings and set up logging: our level from `log.level`, Kafka's clients at warning or above.

    `overrides` are the command's own options by section and name (``kafka_bootstrap="localhost:9092"``); None means not
    given. Raises OperatorError.
    """
    settings = reader_from(ctx, **overrides)()
    level = logging.getLevelNamesMapping()[settings.log.level.upper()]
    logging.basicConfig(level=level, format=LOG_FORMAT, force=True)
    if level > logging.DEBUG:
        logging.getLogger("aiokafka").setLevel(max(level, logging.WARNING))  # it logs every subscription at info
    return settings


def reader_from(ctx: click.Context, **overrides: object) -> Callable[[], Settings]:
    """Return a function that loads the settings as `settings_from` does, for reloading them."""
    invocation = ctx.find_object(Invocation) or Invocation()
    paths = {name.replace("_", ".", 1): value for name, value in overrides.items()}
    if invocation.verbose:
        paths["log.level"] = "debug"
    return lambda: load_settings(invocation.config, os.environ, paths)


def require_cluster(settings: Settings) -> None:
    """Raise OperatorError unless a Kafka cluster is configured."""
    if not settings.kafka.bootstrap:
        raise OperatorError(NO_CLUSTER)
