"""Sendmail from Debian over the milter protocol; clients connect from other addresses of the loopback network."""

from __future__ import annotations

import socket
import subprocess

from tests.system.mta.mounts import mounted
from tests.system.mta.packages import unpacked
from tests.system.mta.servers import MILTER_SNIPPET, Clients, Conversation, MailServer, connection

CONFIGURATION = """divert(0)dnl
include(`{root}/usr/share/sendmail/cf/m4/cf.m4')dnl
OSTYPE(`linux')dnl
define(`confDOMAIN_NAME', `mx.example.org')dnl
define(`confPID_FILE', `{folder}/pid')dnl
define(`STATUS_FILE', `{folder}/statistics')dnl
define(`HELP_FILE', `')dnl
define(`QUEUE_DIR', `{folder}/queue')dnl
define(`ALIAS_FILE', `')dnl
define(`confSERVICE_SWITCH_FILE', `{folder}/switch')dnl
define(`confDELIVERY_MODE', `queueonly')dnl
define(`confTO_IDENT', `0s')dnl
define(`confLOG_LEVEL', `14')dnl
define(`confCONNECTION_RATE_THROTTLE', `0')dnl
FEATURE(`nocanonify')dnl
FEATURE(`accept_unresolvable_domains')dnl
FEATURE(`promiscuous_relay')dnl
FEATURE(`no_default_msa')dnl
DAEMON_OPTIONS(`Name=MTA, Addr=127.0.0.1, Port={port}')dnl
{snippet}
MAILER(`smtp')dnl
"""


class Sendmail(MailServer):
    """Sendmail that queues all mail. It would wait for DNS on a host name without a dot, so /etc/hosts has one."""

    CLIENTS = Clients("127.0.2.7", "127.0.2.8", "127.51.100.7", "127.51.100.0/24")

    def __enter__(self) -> Sendmail:
        (self.folder / "hosts").write_text(f"127.0.0.1 mx.example.org {socket.gethostname()} localhost\n")
        prefix = mounted("Sendmail", {"/etc/hosts": self.folder / "hosts"})
        packages = "sendmail-bin sendmail-cf m4 libdb5.3 libldap-2.5-0 liblockfile1 libnsl2 libsasl2-2 libwrap0"
        root = unpacked("sendmail", *packages.split())
        environ = {"LD_LIBRARY_PATH": str(root / "usr/lib/x86_64-linux-gnu"), "PATH": "/usr/sbin:/usr/bin:/bin"}
        (self.folder / "queue").mkdir(mode=0o700)
        (self.folder / "switch").write_text("hosts files\naliases files\n")
        source = CONFIGURATION.format(root=root, folder=self.folder, port=self.port, snippet=self._snippet())
        made = subprocess.run(
            [str(root / "usr/bin/m4")], input=source, env=environ, capture_output=True, text=True, check=True
        )
        (self.folder / "sendmail.cf").write_text(made.stdout)
        program = root / "usr/libexec/sendmail/sendmail"
        program.chmod(0o755)  # it is setgid, and the loader ignores LD_LIBRARY_PATH for such programs
        command = [*prefix, str(program), "-bD", "-C", str(self.folder / "sendmail.cf")]
        self.start([*command, "-X", str(self.folder / "traffic.log")], environ)
        return self

    def deliver(self, ip: str) -> str:
        with connection(self.port, ip) as client, client.makefile("rwb") as both:
            smtp = Conversation(both, both)
            greeting = smtp.reply()
            if not greeting.startswith("220"):
                return greeting
            smtp.send("EHLO mail.example.net")
            return smtp.message(2)

    def _snippet(self) -> str:
        return MILTER_SNIPPET.read_text().replace("10041", str(self.other_port))
