"""The command line `tidegate`: a group whose commands are imported only when they are called.

So ``tidegate --help`` is fast, and a broken import in one command doesn't affect the others. Each command is one module, listed
in `COMMANDS`.

Exit statuses of `main`:

- 2, with one line on standard error: operator errors, misused options, files that can't be read or written
- 130: Ctrl-C
- 1, with one sentence: an input file is cut or damaged; the part before the damage was used
- 1, with a traceback: bugs, which aren't caught

If the reader of the output has closed it (``| head``), the command ends silently.
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
    """An entry in the list of commands."""

    where: str  # module:attribute
    summary: str  # line in `tidegate --help`


COMMANDS = {
    "demo": Command("engine.cli.demo:demo", "Process a simulated month of mail with Kafka and the engine."),
    "up": Command("engine.cli.up:up", "Run a broker and a worker on this machine until stopped."),
    "worker": Command("engine.cli.worker:worker", "Run a worker: read events, publish throttle decisions."),
    "edge": Command("engine.cli.edge:edge", "Run an edge: answer mail servers, publish their connections."),
    "filter": Command("engine.cli.opensmtpd_filter:filter_", "Run as OpenSMTPD's filter and query an edge."),
    "top": Command("engine.cli.top:top", "Watch a worker live: rates, partitions, throttled senders."),
    "status": Command("engine.cli.status:status", "Show the status of a worker, for people and scripts."),
    "config": Command("engine.cli.config:config", "Show the effective configuration and its hash."),
    "reload": Command("engine.cli.reload:reload", "Reload a worker's configuration without a restart."),
    "topics": Command("engine.cli.topics:topics", "Show, create and check the topics on a cluster."),
    "produce": Command("engine.cli.produce:produce", "Publish events from files to Kafka."),
    "import": Command("engine.cli.import_logs:import_", "Convert Postfix, Exim or CSV logs to events."),
    "replay": Command("engine.cli.replay:replay", "Run the engine over files of events, without Kafka."),
    "warm": Command("engine.cli.warm:warm", "Initialise a new site's state from its old logs."),
    "explain": Command("engine.cli.explain:explain", "Explain why a sender is throttled or not."),
    "plot": Command("engine.cli.plot:plot", "Draw a sender's volume, expectation, limit and decisions."),
    "compare": Command("engine.cli.compare:compare", "Compare two configurations, or shadow with live decisions."),
    "calibrate": Command("engine.cli.calibrate:calibrate", "Choose a site's threshold from its events and a budget."),
    "connector": Command("engine.cli.connector:connector", "Exempt partners and relays: add, remove, list, import."),
    "release": Command("engine.cli.release_throttle:release", "Release a network immediately, for a grace time."),
    "throttle": Command("engine.cli.release_throttle:throttle", "Throttle a network to a rate manually."),
    "audit": Command("engine.cli.audit:audit", "Show overrides with author, time and reason."),
    "decisions": Command("engine.cli.decisions:decisions", "Print and follow the decisions, as text or JSON."),
    "plan": Command("engine.cli.plan:plan", "Estimate workers, cores, memory and disk for a load."),
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
    errno.ENOTDIR: "a part of this path is a file, not a folder",
    errno.EMFILE: "too many open files: raise the limit (ulimit -n)",
}


class LazyGroup(click.Group):
    """A group that imports a command when it is called. Listing commands imports none."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of `COMMANDS`, which is the order of first use."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return the command of that name, None if there is none."""
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name].where.partition(":")
        try:
            command = getattr(importlib.import_module(module), attribute)
        except ModuleNotFoundError as error:
            if str(error.name).partition(".")[0] in ("engine", "topics"):
                raise
            advice = "this installation has only the edge: pip install 'tidegate[engine]'"
            raise OperatorError(f"`tidegate {cmd_name}` needs the package {error.name}, {advice}") from error
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands for ``--help``."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, command.summary) for name, command in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Configuration file, TOML.  [default: $TIDEGATE_CONFIG, else ./tidegate.toml if it exists]",
)
@click.option("-v", "--verbose", is_flag=True, help="Log at debug level on standard error.")
@click.version_option(package_name="tidegate", message="tidegate %(version)s")
@click.pass_context
def tidegate(ctx: click.Context, config: Path | None, verbose: bool) -> None:
    """Streaming rate-anomaly engine for inbound mail.

    Reads mail servers' connection events from Kafka, learns each sender's usual volume, and publishes throttle decisions for
    senders that exceed their own history.

    \b
    Example, which starts its own Kafka:
      tidegate demo
    """
    ctx.obj = Invocation(config, verbose, ctx.obj if isinstance(ctx.obj, list) else [])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status. `arguments` exclude the program's name; None: those of the process."""
    damage: list[str] = []
    try:
        status = tidegate.main(args=arguments, prog_name="tidegate", standalone_mode=False, obj=damage)
    except click.exceptions.Abort:
        return EXIT_INTERRUPTED
    except click.ClickException as error:
        error.show()
        return EXIT_MISUSE
    except OperatorError as error:
        return _report(str(error))
    except OSError as error:
        if error.errno not in REMEDIES:
            raise
        return _report(_remedy(error))
    status = status if isinstance(status, int) else 0
    return status or int(bool(damage))


def _remedy(error: OSError) -> str:
    paths = [
        os.fsdecode(path) for path in (error.filename, error.filename2) if isinstance(path, str | bytes | os.PathLike)
    ]
    remedy = REMEDIES[error.errno or 0]
    return f"{paths[-1]}: {remedy}" if paths else remedy


def _report(message: str) -> int:
    sys.stderr.write(f"tidegate: {message}\n")  # one write: processes of an edge may write concurrently
    return EXIT_MISUSE
