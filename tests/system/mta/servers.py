"""Mail servers for tests: with the shipped snippets of `deploy/` and the edge's port; they deliver no mail.

`deliver` sends one message over one connection, from a client address set by XCLIENT, PROXY or an option. It returns the last
reply, which refuses or accepts the message.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from benchmarks.harness.ports import free_port
from tests.conftest import ROOT
from tests.system.mta.mounts import mounted, users
from tests.system.mta.packages import haraka, need_root, unpacked

DEPLOY = ROOT / "deploy"
START_S = 20.0
MILTER_SNIPPET = DEPLOY / "sendmail/tidegate.mc"
CODES = re.compile(r"^\d{3}[- ](\d\.\d+\.\d+ )?")
EXIM_ID = 65_432  # unused on the machine
MESSAGE = "Subject: x\r\n\r\nx\r\n."


REFUSAL = re.compile(
    r"451 4\.7\.50\d (?:<[^>]*>: )?(?:Recipient address rejected: )?"
    r"Server busy\. Please try again later from \[([0-9a-f.:]+)\]; retry in \d+ s\. \(AS\d{8}\)"
)


class Clients(NamedTuple):
    """Client addresses that can be set for a server."""

    client: str
    other: str
    slow: str  # in `network`
    network: str


class Conversation:
    """SMTP over a pair of files, one command at a time."""

    def __init__(self, reading: object, writing: object) -> None:
        self._reading, self._writing = reading, writing

    def reply(self) -> str:
        """Return the next reply as one line; Exim wraps long ones. Only the first line keeps its codes."""
        lines: list[str] = []
        while not lines or lines[-1][3:4] == "-":
            lines.append(self._reading.readline().decode().rstrip("\r\n"))  # type: ignore[attr-defined]
        first, *more = [CODES.sub("", line, 1) if number else line for number, line in enumerate(lines)]
        return " ".join([f"{first[:3]} {first[4:]}", *more])

    def send(self, command: str) -> str:
        """Return the reply to a command."""
        self._writing.write(f"{command}\r\n".encode())  # type: ignore[attr-defined]
        self._writing.flush()  # type: ignore[attr-defined]
        return self.reply()

    def offer(self, recipients: int = 1) -> str:
        """Offer a message, then reset. Return the first refusal or the last recipient's reply."""
        reply = self._envelope(recipients)
        self.send("RSET")
        return reply

    def message(self, recipients: int = 1) -> str:
        """Send one message. Return the first refusal or the reply to its end."""
        reply = self._envelope(recipients)
        if not reply.startswith("250"):
            self.send("RSET")
            return reply
        assert self.send("DATA").startswith("354")
        return self.send(MESSAGE)

    def _envelope(self, recipients: int) -> str:
        reply = self.send("MAIL FROM:<a@example.net>")
        for number in range(recipients):
            if not reply.startswith("250"):
                break
            reply = self.send(f"RCPT TO:<u{number}@example.org>")
        return reply


def connection(port: int, ip: str = "127.0.0.1") -> socket.socket:
    """Return a client's socket, connected from an address of the loopback network."""
    return socket.create_connection(("127.0.0.1", port), timeout=30, source_address=(ip, 0))


class MailServer(ABC):
    """A server that runs while this is a context, and listens on `port`."""

    CLIENTS = Clients("192.0.2.7", "192.0.2.8", "198.51.100.7", "198.51.100.0/24")
    REFUSAL = REFUSAL
    ENDS_BY = signal.SIGKILL  # SIGTERM for a server that must end its own processes
    _process: subprocess.Popen[bytes] | None = None

    def __init__(self, policy_port: int, other_port: int) -> None:
        """`policy_port` is the edge's port for the policy protocol, `other_port` its port for this server's protocol."""
        self.policy_port, self.other_port, self.port = policy_port, other_port, free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="tidegate-mta-"))
        self.folder.chmod(0o755)

    @abstractmethod
    def __enter__(self) -> MailServer:
        """Start it."""

    def start(self, command: list[str], environ: dict[str, str]) -> None:
        """Run it in its folder with its output in a log there, and wait until it listens."""
        with (self.folder / "output.log").open("wb") as log:
            self._process = subprocess.Popen(
                command, env=environ, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self.wait_until_it_listens()

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.send_signal(self.ENDS_BY)
            self._process.wait(10)
        shutil.rmtree(self.folder, ignore_errors=True)

    @abstractmethod
    def deliver(self, ip: str) -> str:
        """Return the reply to a message from a client with this address."""

    def refused(self, reply: str, ip: str) -> bool:
        """Return True if this is exactly the reply to a throttled client."""
        match = self.REFUSAL.fullmatch(reply)
        return match is not None and match[1] == ip

    def wait_until_it_listens(self, port: int = 0) -> None:
        """Wait until a port accepts connections; 0 is the server's own."""
        deadline_s = time.monotonic() + START_S
        while time.monotonic() < deadline_s:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port or self.port)):
                return
            time.sleep(0.05)
        logs = [path.read_text(errors="replace") for path in self.folder.rglob("*.log")]
        self.__exit__()
        raise AssertionError("\n".join(logs))

    @contextlib.contextmanager
    def connection(self) -> Iterator[Conversation]:
        """Yield a connection before its greeting."""
        with connection(self.port) as client, client.makefile("rwb") as both:
            yield Conversation(both, both)


class Postfix(MailServer):
    """Postfix from Debian with its own queue; clients use XCLIENT."""

    EXTRA = ""
    ENDS_BY = signal.SIGTERM

    def __enter__(self) -> Postfix:
        need_root("Postfix")
        root = unpacked("postfix", "postfix")
        etc, spool, libraries = self.folder / "etc", self.folder / "spool", root / "usr/lib/postfix"
        for folder in (etc, spool, self.folder / "data"):
            folder.mkdir()
        snippet = (DEPLOY / "postfix/main.cf").read_text().replace("127.0.0.1:10040", f"127.0.0.1:{self.policy_port}")
        snippet = snippet.replace("permit_mynetworks,\n", "")  # that is where the test comes from
        (etc / "main.cf").write_text(self._main(root, spool) + snippet + self.EXTRA.format(port=self.other_port))
        (etc / "master.cf").write_text(self._master())
        self._queue(spool)
        environ = {"LD_LIBRARY_PATH": str(libraries), "PATH": os.environ["PATH"]}
        self.start([str(libraries / "sbin/master"), "-c", str(etc), "-d"], environ)
        return self

    def deliver(self, ip: str) -> str:
        with self.client(ip) as smtp:
            return smtp.message(2)

    @contextlib.contextmanager
    def client(self, ip: str) -> Iterator[Conversation]:
        """Yield a client with this address, after EHLO."""
        with self.connection() as smtp:
            assert smtp.reply().startswith("220")
            smtp.send("EHLO mail.example.net")
            assert smtp.send(f"XCLIENT ADDR={ip} PORT={1024 + time.time_ns() // 1000 % 60_000}").startswith("220")
            smtp.send("EHLO mail.example.net")
            yield smtp

    def _main(self, root: Path, spool: Path) -> str:
        libraries = root / "usr/lib/postfix"
        return f"""compatibility_level = 3.6
queue_directory = {spool}
data_directory = {self.folder}/data
command_directory = {root}/usr/sbin
daemon_directory = {libraries}/sbin
shlib_directory = {libraries}
import_environment = MAIL_CONFIG LD_LIBRARY_PATH={libraries}
mail_owner = daemon
setgid_group = games
default_privs = nobody
myhostname = mx.example.org
mydestination = example.org
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
alias_maps =
local_recipient_maps =
local_transport = discard
maillog_file = {self.folder}/mail.log
maillog_file_prefixes = {self.folder}
smtpd_authorized_xclient_hosts = 127.0.0.1
smtpd_client_connection_count_limit = 0
smtpd_junk_command_limit = 1000000
in_flow_delay = 0s
"""

    def _master(self) -> str:
        services = ["rewrite trivial-rewrite", "bounce", "defer bounce", "trace bounce", "flush", "proxymap", "error"]
        lines = [f"127.0.0.1:{self.port} inet n - n - - smtpd", "cleanup unix n - n - 0 cleanup"]
        lines += ["qmgr unix n - n 300 1 qmgr", "discard unix - - n - - discard", "anvil unix - - n - 1 anvil"]
        lines += [f"{service.split()[0]} unix - - n - - {service.split()[-1]}" for service in services]
        return "\n".join([*lines, "postlog unix-dgram n - n - 1 postlogd", ""])

    @staticmethod
    def _queue(spool: Path) -> None:
        names = "active bounce corrupt defer deferred flush hold incoming maildrop pid private public saved trace"
        for name in names.split():
            (spool / name).mkdir()
            shutil.chown(spool / name, "root" if name == "pid" else "daemon")
        for name in ("maildrop", "public"):
            shutil.chown(spool / name, group="games")
            (spool / name).chmod(0o730 if name == "maildrop" else 0o710)
        shutil.chown(spool.parent / "data", "daemon")


class PostfixWithMilter(Postfix):
    """Postfix that asks over the milter protocol."""

    EXTRA = (
        "\nsmtpd_recipient_restrictions = reject_unauth_destination\n"
        "smtpd_milters = {{ inet:127.0.0.1:{port}, connect_timeout=2s, command_timeout=2s, default_action=accept }}\n"
    )


class Exim(MailServer):
    """Exim from Debian, one process per connection on standard input; an option sets the client's address.

    It requires the user Debian-exim, so it sees another passwd file.
    """

    def __enter__(self) -> Exim:
        root = unpacked("exim", "exim4-daemon-light", "exim4-base", "exim4-config", "libidn12")
        self._environ = {"LD_LIBRARY_PATH": str(root / "usr/lib/x86_64-linux-gnu"), "PATH": os.environ["PATH"]}
        snippet = (DEPLOY / "exim/acl.conf").read_text().replace("127.0.0.1:10044", f"127.0.0.1:{self.other_port}")
        self._configuration = self.folder / "exim.conf"
        self._configuration.write_text(
            f"""primary_hostname = mx.example.org
spool_directory = {self.folder}/spool
log_file_path = {self.folder}/%s.log
never_users =
keep_environment =
queue_only
acl_smtp_rcpt = acl_check_rcpt
acl_smtp_data = acl_check_data
begin acl
acl_check_rcpt:
  deny    domains = !example.org
{snippet}
  accept
acl_check_data:
  discard
begin routers
begin transports
begin retry
"""
        )
        self.folder.chmod(0o777)
        prefix = mounted("Exim", users(self.folder, {"Debian-exim": EXIM_ID}))
        self._command = [*prefix, str(root / "usr/sbin/exim4")]
        return self

    def deliver(self, ip: str) -> str:
        client = f"{ip}.{1024 + time.time_ns() // 1000 % 60_000}"
        command = [*self._command, "-C", str(self._configuration), "-bs", "-oMa", client]
        with subprocess.Popen(
            command, env=self._environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        ) as process:
            smtp = Conversation(process.stdout, process.stdin)
            assert smtp.reply().startswith("220")
            smtp.send("EHLO mail.example.net")
            reply = smtp.message(2)
            smtp.send("QUIT")
            return reply


class Haraka(MailServer):
    """Haraka from npm; clients use the PROXY protocol."""

    def __enter__(self) -> Haraka:
        modules = haraka()
        config = self.folder / "config"
        config.mkdir()
        (self.folder / "plugins").mkdir()
        shutil.copy(DEPLOY / "haraka/tidegate.js", self.folder / "plugins")
        defaults = (modules / "Haraka/config/connection.ini").read_text()
        for name, text in {
            "smtp.ini": f"listen=127.0.0.1:{self.port}\nnodes=0\n",
            "plugins": "tidegate\naccept_all\nqueue/test\n",
            "tidegate.ini": f"port = {self.other_port}\n",
            "connection.ini": defaults.replace("hosts[] =", "hosts[] = 127.0.0.1"),
            "host_list": "example.org\n",
            "me": "mx.example.org\n",
        }.items():
            (config / name).write_text(text)
        (self.folder / "plugins/accept_all.js").write_text(
            "exports.hook_rcpt = (next) => next(OK)\nexports.hook_queue = (next) => next(OK)\n"
        )
        environ = {"PATH": os.environ["PATH"], "HOME": str(self.folder), "NODE_PATH": str(modules)}
        self.start(["node", str(modules / "Haraka/bin/haraka"), "-c", str(self.folder)], environ)
        return self

    def deliver(self, ip: str) -> str:
        with self.connection() as smtp:
            port = 1024 + time.time_ns() // 1000 % 60_000
            assert smtp.send(f"PROXY TCP{6 if ':' in ip else 4} {ip} 127.0.0.1 {port} 25").startswith("220")
            smtp.send("EHLO mail.example.net")
            return smtp.message(2)
