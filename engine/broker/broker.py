"""The embedded broker: a real Apache Kafka, one KRaft node on 127.0.0.1, as long as a `with` block.

    with EmbeddedBroker(Path("data")) as broker:
        print(broker.bootstrap)

`start` returns when the broker answers a client. `stop` lets it close its files in order (SIGTERM, after `STOP_GRACE_S`
SIGKILL) and returns when it is gone. However this process ends, SIGKILL included, the broker ends too (`lifeline.py`).
What goes wrong is told in one `OperatorError`. An object may be started again after `stop` or `kill`, on the same port.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self, TextIO

from engine.broker import failure, storage
from engine.broker.artifacts import class_path
from engine.broker.java import BROKER_FLAGS, TOOL_FLAGS, heap_flags, java_command
from engine.broker.process import HeldProcess
from engine.broker.properties import HOST, Ports, broker_properties
from engine.broker.startup import cache_flags
from topics.errors import OperatorError

HEAP_MB = 512
START_TIMEOUT_S = 120.0  # after a crash the broker first checks the ends of its logs
STOP_GRACE_S = 30.0
FREE_PORT_ATTEMPTS = 3
PROBE_INTERVAL_S = 0.05
PROBE_TIMEOUT_S = 2.0
# ApiVersions, version 0, correlation id 1, no client id: the broker answers once it serves clients.
_PROBE = struct.pack(">ihhih", 10, 18, 0, 1, -1)
_HERE = Path(__file__).parent


class EmbeddedBroker:
    """A broker on ``data_dir`` (made if missing) and ``port`` (None: a free one). Nothing runs before `start`.

    ``heap_mb``: Java's heap, of which it needs about 100. ``settings``: broker configuration, as Kafka names it, over that
    of `engine.broker.properties`. ``flags``: further flags for Java, whose class data cache is then not used."""

    def __init__(
        self,
        data_dir: Path | str,
        port: int | None = None,
        heap_mb: int = HEAP_MB,
        settings: Mapping[str, str] | None = None,
        flags: Sequence[str] = (),
    ) -> None:
        self.data_dir = Path(data_dir).expanduser().absolute()
        self.log = self.data_dir / "logs" / "broker.log"
        self._console = self.data_dir / "logs" / "console.log"
        self._port = port
        self._settings, self._flags = dict(settings or {}), tuple(flags)
        self._heap = heap_flags(heap_mb)
        self._process: HeldProcess | None = None
        self._lock: TextIO | None = None
        self._log_begin_octets = 0

    @property
    def bootstrap(self) -> str:
        """The address for clients, host:port; known from the first `start` on."""
        assert self._port is not None, "start it first"
        return f"{HOST}:{self._port}"

    @property
    def pid(self) -> int:
        """The Java process's id."""
        assert self._process is not None, "start it first"
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the broker's process runs."""
        return self._process is not None and self._process.running

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start and wait until the broker answers; downloads Kafka when the cache lacks it."""
        assert not self.running, "it runs already"
        jars = class_path()
        self._lock = storage.claim(self.data_dir)
        try:
            attempts = FREE_PORT_ATTEMPTS if self._port is None else 1
            while not self._attempt(jars, last=attempts == 1):
                attempts -= 1
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop in order and wait until the process is gone; nothing happens when none runs."""
        try:
            if self._process is not None:
                self._process.stop()
        finally:
            self._release()

    def kill(self) -> None:
        """End the broker with SIGKILL, as a crash would."""
        try:
            if self._process is not None:
                self._process.kill()
        finally:
            self._release()

    def check(self) -> None:
        """`OperatorError` with the reason when the broker has stopped by itself since `start`."""
        if self._process is not None and not self._process.running:
            raise OperatorError(f"the embedded Kafka has stopped: {self._why()}")

    def _release(self) -> None:
        self._process = None
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _why(self) -> str:
        return failure.cause(self.log, self._console, self._log_begin_octets)

    def _attempt(self, jars: str, last: bool) -> bool:
        """One try to start; False when a free port was taken in between and another try is due."""
        ports = self._ports()
        storage.write_properties(self.data_dir, broker_properties(ports, self._settings))
        warm = cache_flags(jars)
        storage.format_once(self.data_dir, jars, [*BROKER_FLAGS, "-XX:TieredStopAtLevel=1", *warm])
        assert self._lock is not None
        storage.sign(self._lock, f"{HOST}:{ports.client}")
        self._log_begin_octets = failure.log_size(self.log)
        flags = [*self._heap, *BROKER_FLAGS, *(warm if not self._flags else ()), *self._flags]
        flags += [
            "-Djava.io.tmpdir=tmp",
            "-Dtidegate.logs=logs",
            f"-Dlog4j2.configurationFile={_HERE / 'broker-log4j2.properties'}",
        ]
        command = java_command(jars, flags, "kafka.Kafka", [storage.PROPERTIES])
        with self._console.open("wb") as console:
            self._process = HeldProcess(command, self.data_dir, console, STOP_GRACE_S, [self._lock.fileno()])
        if self._answers(ports.client):
            self._port = ports.client
            return True
        why = self._why()
        if last or "Address already in use" not in why:
            raise OperatorError(f"the embedded Kafka did not start: {why}")
        return False

    def _ports(self) -> Ports:
        """The client port as wanted or a free one, and a free one for the controller."""
        with contextlib.ExitStack() as held:
            client, controller = (held.enter_context(socket.socket()) for _ in range(2))
            for one, number in ((client, self._port or 0), (controller, 0)):
                one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    one.bind((HOST, number))
                except OSError as error:
                    reason = f"port {number} on {HOST} can't be had ({error.strerror})"
                    raise OperatorError(f"{reason}: choose another (local.port), or 0 for a free one") from error
            return Ports(client.getsockname()[1], controller.getsockname()[1])

    def _answers(self, port: int) -> bool:
        """Wait for the first answer; False when the process has ended, `OperatorError` when time is up."""
        assert self._process is not None
        deadline_s = time.monotonic() + START_TIMEOUT_S
        while self._process.running:
            with contextlib.suppress(OSError), socket.create_connection((HOST, port), PROBE_TIMEOUT_S) as connection:
                connection.sendall(_PROBE)
                # A connection to a port that nobody listens on can meet itself: then the answer is our own question.
                if connection.recv(8)[4:] == _PROBE[8:12]:
                    return True
            if time.monotonic() > deadline_s:
                reason = f"the embedded Kafka did not answer within {START_TIMEOUT_S:.0f} s"
                raise OperatorError(f"{reason}: {self._why()}")
            time.sleep(PROBE_INTERVAL_S)
        return False


def kafka_tool(main_class: str, *arguments: str, flags: Sequence[str] = TOOL_FLAGS) -> list[str]:
    """The command line of one of Kafka's own tools, such as ``org.apache.kafka.tools.GetOffsetShell``.

    Run it with the environment of `engine.broker.java.java_environment`. Its warnings go to standard error."""
    jars = class_path()
    log = f"-Dlog4j2.configurationFile={_HERE / 'tool-log4j2.properties'}"
    return java_command(jars, [*flags, *cache_flags(jars), log], main_class, arguments)
