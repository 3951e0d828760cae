"""Checks of option values beyond their type.

Each validator returns "" if the value is valid. Otherwise it returns the expected form, as the end of the sentence "give ...".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from ipaddress import ip_network
from socket import socket
from string import Formatter
from typing import NamedTuple

from topics.decisions import OVERRIDE, REASON_DIGITS

Networks = Mapping[str, tuple[str, ...]]  # [relays]: CIDR networks by relay name

HOUR_MS = 3_600_000
REPLY_FIELDS = frozenset({"ip", "network", "retry_s"})
REPLY_LENGTH = 200
LONGEST_REPLY = 450
SENSITIVITIES = {"off": 0.5, "low": 0.1, "normal": 0.5, "high": 1.0}  # budgets in percent; off detects like normal
CONDITIONS = frozenset({"breaker", "budget", "watch", "lag", "edge"})
LEAST_BUDGET, MOST_BUDGET = 0.005, 10.0

_SERVER = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):(\d{1,5})")
_NAME = re.compile(r"[A-Za-z0-9._-]{0,180}")
_PIPELINE = re.compile(r"gaussian|half-space-trees|\w+(\.\w+)*:\w+", re.ASCII)
_UNIX = re.compile(r"unix:/[!-+\--~]{1,106}")  # printable, no comma; sun_path holds 107 bytes
_ZONE = re.compile(r"([A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?)(\.[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?)*")
_TOKEN = re.compile(r"[!-~]{16,200}")
_WEB = re.compile(r"https?://[^\s/]+(/\S*)?")
_PAGE = re.compile(r"https?://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:\d{1,5})?(/[A-Za-z0-9._~/-]*)?")
_MAIL = re.compile(r"[!-?A-~]{1,64}@[A-Za-z0-9.-]{1,255}")
_STATUS = re.compile(r"4\.7\.[56]\d\d")


def _each(value: str, fits: Callable[[str], object]) -> bool:
    """Return True if the value is empty, or a list of which every item fits."""
    items = split_list(value)
    return all(map(fits, items)) and bool(items or not value)


def servers(value: str) -> str:
    """Accept an empty value, or HOST:PORT, comma-separated, without empty items: Kafka's client refuses those."""
    matches = [_SERVER.fullmatch(server.strip()) for server in value.split(",")] if value else []
    if all(match and 0 < int(match[2]) < 65536 for match in matches):
        return ""
    return "HOST:PORT, comma-separated"


def kafka_name(value: str) -> str:
    """Accept the characters that Kafka allows in topic and group names, or an empty value."""
    return "" if _NAME.fullmatch(value) else "at most 180 letters, digits, dots, dashes and underscores"


def required_name(value: str) -> str:
    """Accept a non-empty `kafka_name`."""
    return kafka_name(value) if value else "a name"


def pipeline(value: str) -> str:
    """Accept a built-in pipeline, or module:callable."""
    return "" if _PIPELINE.fullmatch(value) else "gaussian, half-space-trees or module:callable"


def listeners(value: str) -> str:
    """Accept an empty value, or HOST:PORT and unix:/PATH, comma-separated. Port 0 is any free port."""
    if _each(value, lambda part: _listens_on(part) or _UNIX.fullmatch(part)):
        return ""
    return "HOST:PORT or unix:/PATH, comma-separated"


def conditions(value: str) -> str:
    """Accept a non-empty list of `CONDITIONS`."""
    if value and _each(value, CONDITIONS.__contains__):
        return ""
    return f"a comma-separated list of {', '.join(sorted(CONDITIONS))}"


def reasons(value: str) -> str:
    """Accept an empty value, or reasons of decisions."""
    return _some_of(REASON_DIGITS, value)


def own_reasons(value: str) -> str:
    """Accept an empty value, or reasons of the engine's own decisions, which exclude overrides."""
    return _some_of([reason for reason in REASON_DIGITS if reason != OVERRIDE], value)


def _some_of(known: Collection[str], value: str) -> str:
    return "" if _each(value, known.__contains__) else f"a comma-separated list of {', '.join(known)}"


def networks(value: str) -> str:
    """Accept an empty value, or networks as CIDR."""
    try:
        fine = _each(value, ip_network)
    except ValueError:
        fine = False
    return "" if fine else "networks such as 192.0.2.0/24, comma-separated"


def web_address(value: str) -> str:
    """Accept an empty value, or an http or https URL."""
    return "" if not value or _WEB.fullmatch(value) else "an http or https URL"


def page_address(value: str) -> str:
    """Accept an empty value, or the http or https URL of a page, without user, query or fragment."""
    return "" if not value or _PAGE.fullmatch(value) else "a URL such as http://worker1.example:10090"


def token(value: str) -> str:
    """Accept an empty value, or a secret long enough for guessing to be hopeless, in characters that an HTTP header allows."""
    return "" if not value or _TOKEN.fullmatch(value) else "16 to 200 letters and digits, no spaces"


def mail_addresses(value: str) -> str:
    """Accept an empty value, or mail addresses."""
    return "" if _each(value, _MAIL.fullmatch) else "mail addresses, comma-separated"


def internet_listeners(value: str) -> str:
    """Accept an empty value, or HOST:PORT, comma-separated. Port 0 is any free port."""
    if _each(value, _listens_on):
        return ""
    return "HOST:PORT, comma-separated"


def _listens_on(address: str) -> bool:
    match = _SERVER.fullmatch(address)
    return match is not None and int(match[2]) < 65536


def zone(value: str) -> str:
    """Accept a domain name without a leading or trailing dot."""
    return "" if len(value) <= 120 and _ZONE.fullmatch(value) else "a domain name of at most 120 characters"


def retention(value: int) -> str:
    """Accept -1 (unlimited), or at least an hour, so that records are read before they are deleted."""
    return "" if value == -1 or value >= HOUR_MS else f"-1 for unlimited, or at least {HOUR_MS} (an hour)"


def sensitivity(value: str) -> str:
    """Accept a name of `SENSITIVITIES`, or a budget in percent."""
    try:
        fine = value in SENSITIVITIES or LEAST_BUDGET <= float(value) <= MOST_BUDGET
    except ValueError:
        fine = False
    return "" if fine else f"off, low, normal, high, or a percentage from {LEAST_BUDGET:g} to {MOST_BUDGET:g}"


def status(value: str) -> str:
    """Accept an enhanced status code 4.7.5xx or 4.7.6xx, the range that large mail providers use for throttling."""
    return "" if _STATUS.fullmatch(value) else "an enhanced status code from 4.7.500 to 4.7.699"


def edge_reply_text(value: str) -> str:
    """Accept a `reply_text` that fits an SMTP reply line (512 bytes) with the longest values filled in."""
    if expected := reply_text(value):
        return expected
    longest = value.format(ip="f" * 39, network="f" * 43, retry_s="9" * 10)
    return (
        ""
        if len(longest) <= LONGEST_REPLY
        else f"a text of at most {LONGEST_REPLY} characters with its fields filled in"
    )


def reply_text(value: str) -> str:
    """Accept one line of printable ASCII whose fields a decision can fill."""
    expected = (
        f"one line of at most {REPLY_LENGTH} printable ASCII characters "
        "with no fields but {ip}, {network}, {retry_s}"
    )
    if not (0 < len(value) <= REPLY_LENGTH and value.isascii() and value.isprintable()):
        return expected
    try:
        fields = [part[1:] for part in Formatter().parse(value) if part[1] is not None]
    except ValueError:
        return expected
    return (
        ""
        if all(name in REPLY_FIELDS and not spec and not conversion for name, spec, conversion in fields)
        else expected
    )


def split_list(text: str) -> list[str]:
    """Return the comma-separated items, stripped, without empty ones."""
    return [part for part in map(str.strip, text.split(",")) if part]


class ListenAddress(NamedTuple):
    """One address of an option that `listeners` or `internet_listeners` accepts."""

    host: str = ""
    port: int = 0  # 0: any free port
    path: str = ""  # of a UNIX socket, instead of host and port
    opened: socket | None = None  # an open socket (systemd) instead of an address; the parser leaves it unset


def parse_listen_addresses(value: str) -> list[ListenAddress]:
    """Return the addresses of a valid option, IPv6 hosts without their brackets."""
    return [_listen_address(part) for part in split_list(value)]


def _listen_address(text: str) -> ListenAddress:
    if text.startswith("unix:"):
        return ListenAddress(path=text.removeprefix("unix:"))
    host, _, port = text.rpartition(":")
    return ListenAddress(host.removeprefix("[").removesuffix("]"), int(port))
