"""The command line `tidegate`: a group whose commands are imported only when they are called.

So ``tidegate --help`` answers at once, and a broken import in one command never hides the others. Each command is one
module; `COMMANDS` says where it is and what the list shows.

`main` is the rim: the operator's errors become one line on standard error and exit status 2, as do misused options and
files that can't be read or written; Ctrl-C is 130; a reader that went away (``| head``) ends quietly. Our own mistakes
are not caught: they show where they come from, status 1.
"""

from __future__ import annotations

import errno
import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import click

from engine.cli.options import Invocation
from topics.errors import OperatorError

EXIT_MISUSE, EXIT_INTERRUPTED = 2, 130


class Command(NamedTuple):
    """Where a command is (``module:attribute``), and its line in the list."""

    where: str
    summary: str


COMMANDS = {
    "demo": Command("engine.cli.demo:demo", "Watch a simulated month of mail pass through Kafka and the engine."),
    "up": Command("engine.cli.up:up", "Run a broker and a worker on this machine until stopped."),
    "worker": Command("engine.cli.worker:worker", "Run a worker: events in, throttle decisions out."),
    "edge": Command("engine.cli.edge:edge", "Answer mail servers from the decisions; report connections."),
    "filter": Command("engine.cli.opensmtpd_filter:filter_", "Be OpenSMTPD's filter in front of an edge."),
    "top": Command("engine.cli.top:top", "Watch a worker live: rates, partitions, who is throttled and why."),
    "status": Command("engine.cli.status:status", "Say how a worker is, for people and scripts."),
    "config": Command("engine.cli.config:config", "Show the configuration in force, and its hash."),
    "reload": Command("engine.cli.reload:reload", "Have a worker take other thresholds and relays, without a restart."),
    "topics": Command("engine.cli.topics:topics", "Show, create and check the topics on a cluster."),
    "produce": Command("engine.cli.produce:produce", "Send events from a file into Kafka."),
    "import": Command("engine.cli.import_logs:import_", "Turn Postfix, Exim or CSV logs into events."),
    "replay": Command("engine.cli.replay:replay", "Run the engine over a file of events, without Kafka."),
    "warm": Command("engine.cli.warm:warm", "Start a new site with the history of its old logs."),
    "explain": Command("engine.cli.explain:explain", "Say why a sender is throttled or not."),
    "plot": Command("engine.cli.plot:plot", "Draw a sender's volume, expectation, limit and decisions."),
    "compare": Command("engine.cli.compare:compare", "Compare two configurations on the same events."),
    "calibrate": Command("engine.cli.calibrate:calibrate", "Find a site's threshold from its own events and a budget."),
    "connector": Command("engine.cli.connector:connector", "Exempt partners and relays: add, remove, list, import."),
    "release": Command("engine.cli.release_throttle:release", "Let a network pass now, for a grace."),
    "throttle": Command("engine.cli.release_throttle:throttle", "Hold a network to a rate by hand."),
    "audit": Command("engine.cli.audit:audit", "Show who exempted, released or throttled what, and why."),
    "decisions": Command("engine.cli.decisions:decisions", "Follow the decisions, in words or as JSON."),
    "plan": Command("engine.cli.plan:plan", "Say what a load needs: workers, cores, memory, disk."),
    "check": Command("engine.cli.check:check", "Check environment, configuration and cluster."),
}

REMEDIES = {
    errno.ENOSPC: "no space left on the device: free some, or choose another folder",
    errno.EDQUOT: "disk quota exceeded: free some space, or choose another folder",
    errno.EACCES: "permission denied: choose another path, or run as a user who may use it",
    errno.EPERM: "operation not permitted: choose another path, or run as a user who may use it",
    errno.EROFS: "read-only file system: choose another folder",
    errno.ENOENT: "no such file or folder",
    errno.EISDIR: "is a folder: give a file",
    errno.ENOTDIR: "a part of this path is a file where a folder is needed",
    errno.EMFILE: "too many open files: raise the limit (ulimit -n)",
}


class LazyGroup(click.Group):
    """A group that imports a command when it is called; listing them imports nothing."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, in the order a newcomer meets them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command of that name; None if there is none."""
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name].where.partition(":")
        try:
            command = getattr(importlib.import_module(module), attribute)
        except ModuleNotFoundError as error:
            if str(error.name).partition(".")[0] in ("engine", "topics"):
                raise
            advice = "this installation has the edge alone: pip install 'tidegate[engine]'"
            raise OperatorError(f"`tidegate {cmd_name}` needs the package {error.name}, {advice}") from error
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list in ``--help``."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, command.summary) for name, command in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Configuration, TOML.  [default: $TIDEGATE_CONFIG, else ./tidegate.toml if it is there]",
)
@click.option("-v", "--verbose", is_flag=True, help="Show what happens inside, on standard error.")
@click.version_option(package_name="tidegate", message="tidegate %(version)s")
@click.pass_context
def tidegate(ctx: click.Context, config: Path | None, verbose: bool) -> None:
    """Streaming rate-anomaly engine for inbound mail.

    Reads connection events of mail servers from Kafka, learns what each sender usually sends, and publishes throttle
    decisions for those who break with their own history.

    \b
    Example: watch it work, nothing else needed:
      tidegate demo
    """
    ctx.obj = Invocation(config, verbose)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status. ``arguments``: without the program's name, those of the process if None."""
    try:
        status = tidegate.main(args=arguments, prog_name="tidegate", standalone_mode=False)
    except click.exceptions.Abort:
        return EXIT_INTERRUPTED
    except click.ClickException as error:
        error.show()
        return EXIT_MISUSE
    except OperatorError as error:
        return _complain(str(error))
    except OSError as error:
        if error.errno not in REMEDIES:
            raise
        return _complain(_remedy(error))
    return status if isinstance(status, int) else 0


def _remedy(error: OSError) -> str:
    paths = [
        os.fsdecode(path) for path in (error.filename, error.filename2) if isinstance(path, str | bytes | os.PathLike)
    ]
    said = REMEDIES[error.errno or 0]
    return f"{paths[-1]}: {said}" if paths else said


def _complain(message: str) -> int:
    sys.stderr.write(f"tidegate: {message}\n")  # in one piece: processes of an edge may speak at once
    return EXIT_MISUSE
