"""What a text option must satisfy beyond its type. Each rule takes the value and returns what it should be instead, as the
end of the sentence "give ...", or nothing if the value is fine."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from ipaddress import ip_network
from string import Formatter

from topics.decisions import OVERRIDE, REASON_DIGITS

Networks = Mapping[str, tuple[str, ...]]  # announced relays: networks by name

HOUR_MS = 3_600_000
REPLY_FIELDS = frozenset({"ip", "network", "retry_s"})
REPLY_LENGTH = 200
LONGEST_REPLY = 450
SENSITIVITIES = {"off": 0.5, "low": 0.1, "normal": 0.5, "high": 1.0}  # budgets in percent; off watches as normal would
CONDITIONS = frozenset({"breaker", "budget", "watch", "lag", "edge"})
LEAST_BUDGET, MOST_BUDGET = 0.005, 10.0

_SERVER = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):(\d{1,5})")
_NAME = re.compile(r"[A-Za-z0-9._-]{0,180}")
_PIPELINE = re.compile(r"gaussian|half-space-trees|\w+(\.\w+)*:\w+", re.ASCII)
_UNIX = re.compile(r"unix:/[!-+\--~]{1,106}")  # printable, no comma; the kernel takes 107 octets
_ZONE = re.compile(r"([A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?)(\.[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?)*")
_TOKEN = re.compile(r"[!-~]{16,200}")
_WEB = re.compile(r"https?://[^\s/]+(/\S*)?")
_PAGE = re.compile(r"https?://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:\d{1,5})?(/[A-Za-z0-9._~/-]*)?")
_MAIL = re.compile(r"[!-?A-~]{1,64}@[A-Za-z0-9.-]{1,255}")
_STATUS = re.compile(r"4\.7\.[56]\d\d")


def _each(value: str, fits: Callable[[str], object]) -> bool:
    """Whether a value is empty, or lists what all fits."""
    found = listed(value)
    return all(map(fits, found)) and bool(found or not value)


def servers(value: str) -> str:
    """Nothing, or HOST:PORT, several with commas."""
    matches = (
        [_SERVER.fullmatch(server.strip()) for server in value.split(",")] if value else []
    )  # as Kafka's client does
    if all(match and 0 < int(match[2]) < 65536 for match in matches):
        return ""
    return "HOST:PORT, several with commas between them"


def kafka_name(value: str) -> str:
    """What Kafka takes as part of a topic's or a group's name."""
    return "" if _NAME.fullmatch(value) else "at most 180 letters, digits, dots, dashes and underscores"


def required_name(value: str) -> str:
    """As `kafka_name`, and not empty."""
    return kafka_name(value) if value else "a name"


def pipeline(value: str) -> str:
    """One of the pipelines at hand, or a module and a name in it."""
    return "" if _PIPELINE.fullmatch(value) else "gaussian, half-space-trees or module:callable"


def listeners(value: str) -> str:
    """Nothing, or HOST:PORT and unix:PATH, several with commas. Port 0 is any free one."""
    if _each(value, lambda part: _listens_on(part) or _UNIX.fullmatch(part)):
        return ""
    return "HOST:PORT or unix:/PATH, several with commas between them"


def conditions(value: str) -> str:
    """Some of what can be told of."""
    return "" if value and _each(value, CONDITIONS.__contains__) else f"some of {', '.join(sorted(CONDITIONS))}"


def reasons(value: str) -> str:
    """Some of the reasons that decisions have, or none."""
    return _some_of(REASON_DIGITS, value)


def own_reasons(value: str) -> str:
    """Some of the reasons that the engine's own decisions have, or none."""
    return _some_of([reason for reason in REASON_DIGITS if reason != OVERRIDE], value)


def _some_of(known: Collection[str], value: str) -> str:
    return "" if _each(value, known.__contains__) else f"some of {', '.join(known)}, with commas between them"


def networks(value: str) -> str:
    """Nothing, or networks as CIDR."""
    try:
        fine = _each(value, ip_network)
    except ValueError:
        fine = False
    return "" if fine else "networks such as 192.0.2.0/24, several with commas between them"


def web_address(value: str) -> str:
    """Nothing, or an http or https address."""
    return "" if not value or _WEB.fullmatch(value) else "an http or https address"


def page_address(value: str) -> str:
    """Nothing, or the http or https address of a page: no name and password, no question, no fragment."""
    return "" if not value or _PAGE.fullmatch(value) else "an address such as http://worker1.example:10090"


def token(value: str) -> str:
    """Nothing, or what can't be guessed and can stand in an HTTP header."""
    return "" if not value or _TOKEN.fullmatch(value) else "16 to 200 letters and digits, no spaces"


def mail_addresses(value: str) -> str:
    """Nothing, or mail addresses."""
    return "" if _each(value, _MAIL.fullmatch) else "mail addresses, several with commas between them"


def internet_listeners(value: str) -> str:
    """Nothing, or HOST:PORT, several with commas. Port 0 is any free one."""
    if _each(value, _listens_on):
        return ""
    return "HOST:PORT, several with commas between them"


def _listens_on(place: str) -> bool:
    match = _SERVER.fullmatch(place)
    return match is not None and int(match[2]) < 65536


def zone(value: str) -> str:
    """A domain name without dots around it."""
    return "" if len(value) <= 120 and _ZONE.fullmatch(value) else "a domain name of at most 120 characters"


def retention(value: int) -> str:
    """Unlimited, or long enough that nothing is deleted before it is read."""
    return "" if value == -1 or value >= HOUR_MS else f"-1 for unlimited, or at least {HOUR_MS} (an hour)"


def sensitivity(value: str) -> str:
    """A word of `SENSITIVITIES`, or a budget in percent."""
    try:
        fine = value in SENSITIVITIES or LEAST_BUDGET <= float(value) <= MOST_BUDGET
    except ValueError:
        fine = False
    return "" if fine else f"off, low, normal, high, or a percentage from {LEAST_BUDGET:g} to {MOST_BUDGET:g}"


def status(value: str) -> str:
    """An enhanced status code of the range that the mail world knows for throttling."""
    return "" if _STATUS.fullmatch(value) else "an enhanced status code from 4.7.500 to 4.7.699"


def edge_reply_text(value: str) -> str:
    """As `reply_text`, and short enough for an SMTP reply line (512 octets) with the longest values filled in."""
    if wanted := reply_text(value):
        return wanted
    longest = value.format(ip="f" * 39, network="f" * 43, retry_s="9" * 10)
    return (
        ""
        if len(longest) <= LONGEST_REPLY
        else f"a text of at most {LONGEST_REPLY} characters with its fields filled in"
    )


def reply_text(value: str) -> str:
    """One line of printable ASCII whose only fields are those that a decision can fill."""
    wanted = (
        f"one line of at most {REPLY_LENGTH} printable ASCII characters "
        "with no other fields than {ip}, {network}, {retry_s}"
    )
    if not (0 < len(value) <= REPLY_LENGTH and value.isascii() and value.isprintable()):
        return wanted
    try:
        fields = [part[1:] for part in Formatter().parse(value) if part[1] is not None]
    except ValueError:
        return wanted
    return (
        "" if all(name in REPLY_FIELDS and not spec and not conversion for name, spec, conversion in fields) else wanted
    )


def listed(text: str) -> list[str]:
    """What stands between commas, without the space around it; what is empty is left out."""
    return [part for part in map(str.strip, text.split(",")) if part]
