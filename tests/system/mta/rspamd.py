"""rspamd from Debian with the shipped Lua, as a milter of the tests' Postfix. It defers at the end of DATA."""

from __future__ import annotations

import re
import signal
import subprocess
from pathlib import Path

from benchmarks.harness.ports import free_port
from tests.system.mta.packages import unpacked
from tests.system.mta.servers import DEPLOY, Postfix

PACKAGES = (
    "rspamd libhyperscan5 libluajit2-5.1-2 libluajit-5.1-2 libunwind8 libsodium23 libglib2.0-0 libicu72 libpcre2-8-0"
)
CONFIGURATION = """options {{
  pidfile = "{folder}/pid";
  tempdir = "{folder}";
  url_tld = "{folder}/domains";
  filters = "";
  dns {{ nameserver = ["127.0.0.1:9"]; timeout = 0.1s; retransmits = 1; }}
  local_addrs = ["127.0.0.0/8"];
}}
logging {{ type = "file"; filename = "{folder}/rspamd.log"; level = "info"; }}
lang_detection {{ languages = "{share}/languages"; }}
lua = "{folder}/rspamd.local.lua";
worker "rspamd_proxy" {{
  bind_socket = "127.0.0.1:{port}";
  milter = yes;
  timeout = 10s;
  count = 1;
  upstream "local" {{ default = yes; self_scan = yes; }}
}}
worker "controller" {{ bind_socket = "127.0.0.1:{controller}"; count = 1; }}
"""


class PostfixWithRspamd(Postfix):
    """Postfix asks rspamd, and rspamd the edge."""

    EXTRA = (
        "\nsmtpd_recipient_restrictions = reject_unauth_destination\n"
        "smtpd_milters = {{ inet:127.0.0.1:{port}, connect_timeout=2s, default_action=accept }}\n"
    )
    REFUSAL = re.compile(
        r"451 4\.7\.1 Server busy\. Please try again later from \[([0-9a-f.:]+)\]; retry in \d+ s\. \(AS\d{8}\)"
    )

    def __enter__(self) -> PostfixWithRspamd:
        edge, self.other_port = self.other_port, free_port()
        super().__enter__()
        folder = self.folder / "rspamd"
        folder.mkdir()
        folder.chmod(0o777)
        lua = (DEPLOY / "rspamd/tidegate.lua").read_text()
        assert "127.0.0.1:10080" in lua
        (folder / "tidegate.lua").write_text(lua.replace("127.0.0.1:10080", f"127.0.0.1:{edge}"))
        (folder / "rspamd.local.lua").write_text(f"dofile '{folder}/tidegate.lua'\n")
        root = unpacked("rspamd", *PACKAGES.split())
        share = root / "usr/share/rspamd"
        text = CONFIGURATION.format(folder=folder, share=share, port=self.other_port, controller=free_port())
        (folder / "domains").write_text("com\nnet\norg\n")
        (folder / "rspamd.conf").write_text(text)
        libraries = f"{root}/usr/lib/rspamd:{root}/usr/lib/x86_64-linux-gnu"
        command = [str(root / "usr/bin/rspamd"), "-f", "-u", "nobody", "-g", "nogroup", "-c", f"{folder}/rspamd.conf"]
        self._rspamd = subprocess.Popen(
            [*command, *variables(folder, share)],
            env={"LD_LIBRARY_PATH": libraries},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.wait_until_it_listens(self.other_port)
        return self

    def __exit__(self, *_: object) -> None:
        self._rspamd.send_signal(signal.SIGTERM)
        self._rspamd.wait(10)
        super().__exit__()


def variables(folder: Path, share: Path) -> list[str]:
    """Return the options that set rspamd's folders."""
    own = dict.fromkeys(("CONFDIR", "LOCAL_CONFDIR", "RUNDIR", "DBDIR", "LOGDIR"), folder)
    shipped = {"SHAREDIR": share, "PLUGINSDIR": share / "plugins", "RULESDIR": share / "rules"}
    shipped |= {"LUALIBDIR": share / "lualib", "WWWDIR": share / "www"}
    return [f"--var={name}={path}" for name, path in {**own, **shipped}.items()]
