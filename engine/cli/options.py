"""What the commands share: the options of the group, the settings they lead to, and the log."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from engine.config.load import Settings, load_settings

Command = TypeVar("Command", bound=Callable[..., Any])

LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


@dataclass(frozen=True, slots=True)
class Invocation:
    """What stands before the command's name."""

    config: Path | None = None
    verbose: bool = False


def bootstrap_option(command: Command) -> Command:
    """Adds ``--bootstrap``, parameter ``bootstrap: str | None``; hand it to `settings_from` as ``kafka_bootstrap``."""
    return click.option(
        "--bootstrap",
        metavar="HOST:PORT",
        help="Kafka broker, several with commas.  [default: kafka.bootstrap of the configuration]",
    )(command)


def url_option(command: Command) -> Command:
    """Adds ``--url``, parameter ``url: str | None``: where a worker's HTTP is asked."""
    return click.option(
        "--url", metavar="URL", help="Where the worker answers.  [default: the first place of worker.http]"
    )(command)


def settings_from(ctx: click.Context, **overrides: object) -> Settings:
    """The settings in force, and the log set to their level, Kafka's clients to warnings. ``overrides``: what the command's
    own options say, by section and name (``kafka_bootstrap="localhost:9092"``); None means that nothing was said. Raises
    `OperatorError`."""
    settings = reader_from(ctx, **overrides)()
    level = logging.getLevelNamesMapping()[settings.log.level.upper()]
    logging.basicConfig(level=level, format=LOG_FORMAT, force=True)
    if level > logging.DEBUG:
        logging.getLogger("aiokafka").setLevel(max(level, logging.WARNING))  # what it subscribes to is nobody's news
    return settings


def reader_from(ctx: click.Context, **overrides: object) -> Callable[[], Settings]:
    """What reads the settings again, as `settings_from` does."""
    invocation = ctx.find_object(Invocation) or Invocation()
    paths = {name.replace("_", ".", 1): value for name, value in overrides.items()}
    if invocation.verbose:
        paths["log.level"] = "debug"
    return lambda: load_settings(invocation.config, os.environ, paths)
