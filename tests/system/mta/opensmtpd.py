"""OpenSMTPD from Debian with the shipped filter, which asks the edge; clients use the PROXY protocol, version 2."""

from __future__ import annotations

import signal
import socket
import struct
import sys
import time
from pathlib import Path

from tests.system.mta.mounts import mounted, users
from tests.system.mta.packages import unpacked
from tests.system.mta.servers import DEPLOY, Conversation, MailServer

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
QUEUE_ID = 65_433  # unused on the machine
SHIPPED = "/opt/tidegate/bin/tidegate filter 127.0.0.1:10045"


def proxy_header(ip: str, port: int) -> bytes:
    """Return the PROXY header with a client's address."""
    family = socket.AF_INET6 if ":" in ip else socket.AF_INET
    local = "::1" if ":" in ip else "127.0.0.1"
    addresses = socket.inet_pton(family, ip) + socket.inet_pton(family, local) + struct.pack(">HH", port, 25)
    return SIGNATURE + struct.pack(">BBH", 0x21, 0x21 if ":" in ip else 0x11, len(addresses)) + addresses


class OpenSmtpd(MailServer):
    """OpenSMTPD, which has fixed names of users and folders. It delivers nothing; mail stays in its queue."""

    ENDS_BY = signal.SIGTERM

    def __enter__(self) -> OpenSmtpd:
        root = unpacked("opensmtpd", "opensmtpd", "libevent-2.1-7", "libdb5.3")
        folders = {"/run": "run", "/var/spool": "spool", "/var/lib": "lib"}
        for name in (*folders.values(), "spool/smtpd", "lib/opensmtpd", "lib/opensmtpd/empty"):
            (self.folder / name).mkdir()
        (self.folder / "spool/smtpd").chmod(0o711)
        # The filter must be able to run this Python, so its user has another name but the same rights as ours.
        ids = {"opensmtpd": 0, "opensmtpq": QUEUE_ID}
        prefix = mounted(
            "OpenSMTPD", {**{path: self.folder / name for path, name in folders.items()}, **users(self.folder, ids)}
        )
        configuration = self.folder / "smtpd.conf"
        configuration.write_text(self._configuration())
        command = [*prefix, str(root / "usr/sbin/smtpd"), "-d", "-f", str(configuration)]
        environ = {"LD_LIBRARY_PATH": str(root / "usr/lib/x86_64-linux-gnu"), "PATH": f"{root}/usr/sbin:/usr/bin:/bin"}
        self.start(command, environ)
        return self

    def deliver(self, ip: str) -> str:
        with socket.create_connection(("127.0.0.1", self.port), timeout=30) as client, client.makefile("rwb") as both:
            client.sendall(proxy_header(ip, 1024 + time.time_ns() // 1000 % 60_000))
            smtp = Conversation(both, both)
            assert smtp.reply().startswith("220")
            smtp.send("EHLO mail.example.net")
            return smtp.message(2)

    def _configuration(self) -> str:
        command = f"{Path(sys.executable).with_name('tidegate')} filter 127.0.0.1:{self.other_port}"
        snippet = (DEPLOY / "opensmtpd/smtpd.conf").read_text().replace(SHIPPED, command)
        listening = f"listen on 127.0.0.1 port {self.port} proxy-v2"
        snippet = snippet.replace("listen on all port 25", listening)
        return (
            f'{snippet}\naction "keep" relay host "smtp://127.0.0.1:9"\n'
            'match from any for domain "example.org" action "keep"\n'
        )
