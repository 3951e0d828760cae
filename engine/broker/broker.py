"""The embedded broker: a real Apache Kafka, one KRaft node on 127.0.0.1, for the duration of a `with` block.

    with EmbeddedBroker(Path("data")) as broker:
        print(broker.bootstrap)

`start` returns when the broker answers a client. `stop` sends SIGTERM (SIGKILL after `STOP_GRACE_S`) and returns when the
process has ended. However this process ends, SIGKILL included, the broker ends too (`lifeline.py`). Every failure is one
`OperatorError`. A broker may be started again after `stop` or `kill`, on the same port.
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
from engine.broker.java import BROKER_FLAGS, TOOL_FLAGS, class_cache_flags, heap_flags, java_command
from engine.broker.process import JavaProcess
from engine.broker.properties import HOST, Ports, broker_properties
from topics.errors import OperatorError

HEAP_MB = 512
START_TIMEOUT_S = 120.0  # after a crash the broker first checks the ends of its logs
STOP_GRACE_S = 30.0
FREE_PORT_ATTEMPTS = 3
PROBE_INTERVAL_S = 0.05
PROBE_TIMEOUT_S = 2.0
# ApiVersions, version 0, correlation id 1, no client id; answered once the broker serves clients.
_PROBE = struct.pack(">ihhih", 10, 18, 0, 1, -1)
_HERE = Path(__file__).parent


class EmbeddedBroker:
    """A broker on `data_dir` (created if missing) and `port` (None: a free one). Nothing runs before `start`.

    `heap_mb`: Java's heap, of which the broker needs about 100. `settings`: broker configuration with Kafka's names, which
    overrides that of `engine.broker.properties`. `flags`: more flags for Java; the class data cache isn't used then.
    """

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
        self._process: JavaProcess | None = None
        self._lock: TextIO | None = None
        self._log_start_bytes = 0

    @property
    def bootstrap(self) -> str:
        """Return the address for clients, host:port; available after the first `start`."""
        assert self._port is not None, "not started"
        return f"{HOST}:{self._port}"

    @property
    def pid(self) -> int:
        """Return the id of the Java process."""
        assert self._process is not None, "not started"
        return self._process.pid

    @property
    def running(self) -> bool:
        """True if the broker's process runs."""
        return self._process is not None and self._process.running

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start and wait until the broker answers. Download Kafka if the cache lacks it."""
        assert not self.running, "already running"
        jars = class_path()
        self._lock = storage.lock_folder(self.data_dir)
        try:
            attempts = FREE_PORT_ATTEMPTS if self._port is None else 1
            while not self._try_start(jars, last=attempts == 1):
                attempts -= 1
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop the broker and wait until its process has ended. Do nothing if none runs."""
        try:
            if self._process is not None:
                self._process.stop()
        finally:
            self._release()

    def kill(self) -> None:
        """End the broker with SIGKILL, like a crash."""
        try:
            if self._process is not None:
                self._process.kill()
        finally:
            self._release()

    def check(self) -> None:
        """Raise OperatorError with the reason if the broker has stopped by itself since `start`."""
        if self._process is not None and not self._process.running:
            raise OperatorError(f"the embedded Kafka has stopped: {self._reason()}")

    def _release(self) -> None:
        self._process = None
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _reason(self) -> str:
        return failure.stop_reason(self.log, self._console, self._log_start_bytes)

    def _try_start(self, jars: str, last: bool) -> bool:
        """Try to start once; return False if another process took the free port, so another try is needed."""
        ports = self._ports()
        storage.write_properties(self.data_dir, broker_properties(ports, self._settings))
        cache = class_cache_flags(jars)
        storage.format_once(self.data_dir, jars, [*BROKER_FLAGS, "-XX:TieredStopAtLevel=1", *cache])
        assert self._lock is not None
        storage.write_owner(self._lock, f"{HOST}:{ports.client}")
        self._log_start_bytes = failure.log_size(self.log)
        flags = [*self._heap, *BROKER_FLAGS, *(cache if not self._flags else ()), *self._flags]
        flags += [
            "-Djava.io.tmpdir=tmp",
            "-Dtidegate.logs=logs",
            f"-Dlog4j2.configurationFile={_HERE / 'broker-log4j2.properties'}",
        ]
        command = java_command(jars, flags, "kafka.Kafka", [storage.PROPERTIES])
        with self._console.open("wb") as console:
            self._process = JavaProcess(command, self.data_dir, console, STOP_GRACE_S, [self._lock.fileno()])
        if self._wait_for_answer(ports.client):
            self._port = ports.client
            return True
        reason = self._reason()
        if last or "Address already in use" not in reason:
            raise OperatorError(f"the embedded Kafka did not start: {reason}")
        return False

    def _ports(self) -> Ports:
        """Return the given client port or a free one, and a free one for the controller."""
        with contextlib.ExitStack() as sockets:
            client, controller = (sockets.enter_context(socket.socket()) for _ in range(2))
            for listener, number in ((client, self._port or 0), (controller, 0)):
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    listener.bind((HOST, number))
                except OSError as error:
                    reason = f"port {number} on {HOST} is not available ({error.strerror})"
                    raise OperatorError(f"{reason}: choose another (local.port), or 0 for a free one") from error
            return Ports(client.getsockname()[1], controller.getsockname()[1])

    def _wait_for_answer(self, port: int) -> bool:
        """Wait for the first answer; return False if the process has ended. Raise OperatorError after `START_TIMEOUT_S`."""
        assert self._process is not None
        deadline_s = time.monotonic() + START_TIMEOUT_S
        while self._process.running:
            with contextlib.suppress(OSError), socket.create_connection((HOST, port), PROBE_TIMEOUT_S) as connection:
                connection.sendall(_PROBE)
                # A connection to a port without listener can connect to itself: the answer is then our own request.
                if connection.recv(8)[4:] == _PROBE[8:12]:
                    return True
            if time.monotonic() > deadline_s:
                reason = f"the embedded Kafka did not answer within {START_TIMEOUT_S:.0f} s"
                raise OperatorError(f"{reason}: {self._reason()}")
            time.sleep(PROBE_INTERVAL_S)
        return False


def kafka_tool(main_class: str, *arguments: str, flags: Sequence[str] = TOOL_FLAGS) -> list[str]:
    """Return the command line of one of Kafka's own tools, such as `org.apache.kafka.tools.GetOffsetShell`.

    Run it with the environment of `engine.broker.java.java_environment`. Its warnings go to standard error.
    """
    jars = class_path()
    log = f"-Dlog4j2.configurationFile={_HERE / 'tool-log4j2.properties'}"
    return java_command(jars, [*flags, *class_cache_flags(jars), log], main_class, arguments)
