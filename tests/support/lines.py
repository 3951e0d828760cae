"""JSON texts for the scan: canonical events, objects similar to them, and damaged lines."""

from __future__ import annotations

import string

import orjson
from hypothesis import strategies as st

from topics.events import LAST_TS_MS, MAX_MESSAGES

PLAIN = st.text("".join(chr(c) for c in range(32, 127) if chr(c) not in '"\\'), max_size=20)
SPACE = st.sampled_from(["", "", "", " ", "\t", "\r", "\n", "  \n "])
ADDRESSES = (
    st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).map(str).filter(lambda ip: not ip.startswith("ffff:ffff:"))
)
COUNTS = st.integers(0, MAX_MESSAGES).map(str)
CONTRACT = {
    "ts": st.integers(0, LAST_TS_MS).map(str),
    "ip": ADDRESSES.map(lambda ip: f'"{ip}"'),
    "messages": COUNTS,
    "recipients": COUNTS,
    "outcome": st.sampled_from(['"accepted"', '"deferred"', '"rejected"']),
}
OTHER_NAMES = PLAIN.filter(lambda name: name not in CONTRACT).map(lambda name: f'"{name}"')
OTHER_VALUES = st.one_of(
    PLAIN.map(lambda text: f'"{text}"'),
    st.integers(0, 10**18 - 1).map(str),
    st.sampled_from(["true", "false", "null"]),
)


@st.composite
def joined(draw: st.DrawFn, fields: list[tuple[str, str]]) -> bytes:
    """An object of the (name, value) texts, with white space wherever JSON allows it."""
    parts = ",".join(f"{draw(SPACE)}{name}{draw(SPACE)}:{draw(SPACE)}{value}{draw(SPACE)}" for name, value in fields)
    return f"{draw(SPACE)}{{{parts}}}{draw(SPACE)}".encode("utf-8", "surrogatepass")


@st.composite
def canonical(draw: st.DrawFn) -> bytes:
    """An event of the contract with other plain fields, in any order, with any white space."""
    names = ["ts", "ip", *draw(st.sets(st.sampled_from(["messages", "recipients", "outcome"])))]
    fields = [(f'"{name}"', draw(CONTRACT[name])) for name in names]
    fields += draw(st.lists(st.tuples(OTHER_NAMES, OTHER_VALUES), max_size=3))
    return draw(joined(draw(st.permutations(fields))))


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
ODD_NAMES = st.sampled_from(
    ["ts", "ip", "messages", "recipients", "outcome", "mta", "tS", "is", "tp", "messagez", "recipientz", "outcomes", "",
     "ts ", "ip\\u0000", "message", "\\u0074s", "outcome\\\\", "ﬀ", "\x7f", "\x1f", "ts\\", 'o"'],
)  # fmt: skip
ODD_VALUES = st.sampled_from(
    ["0", "-0", "-1", "00", "01", "+1", "1.", "1.0", "1e3", "1E0", ".5", "0x1", "1_0", "1000001", "999999999999999999",
     "1000000000000000000", "9223372036854775807", "9223372036854775808", "18446744073709551616", "253402300799999",
     "253402300800000", "1" + "0" * 400, "true", "tru", "truee", "nul", "null ", "falsey", "NaN", "Infinity", "",
     "[]", "{}", '[{"ts":1}]', '{"ip":[]}', "'x'", '"', '"\\"', '"\\"}', '"\\ud800"', '"ü"', '"\x00"', '""', '"a"',
     '"accepted"', '"Accepted"', '"accepted "', '"\\u0061ccepted"', '"192.0.2.7"', '"192.0.2.07"', '"0.0.0.0"', '"::"',
     '"::ffff:192.0.2.7"', '"::ffff:c000:207"', '"1:2:3:4:5:6:7::"', '"ffff:ffff::1"', '"ffff:fffe::"', '"1::2::3"',
     '"fe80::1%eth0"', '"2001:db8::/64"', '"::1.2.3.4"', '"12345::"'],
)  # fmt: skip
NAMES = st.one_of(ODD_NAMES, st.text(max_size=4)).map(lambda name: f'"{name}"')
VALUES = st.one_of(ODD_VALUES, *CONTRACT.values(), JSON.map(lambda value: orjson.dumps(value).decode()))


@st.composite
def objects(draw: st.DrawFn) -> bytes:
    """An object or something close: contract fields with fitting and other values, duplicates, escapes, nesting."""
    fields = [
        (f'"{name}"', draw(CONTRACT[name])) for name in draw(st.sets(st.sampled_from(sorted(CONTRACT)), max_size=5))
    ]
    fields += draw(st.lists(st.tuples(NAMES, VALUES), max_size=3))
    return draw(joined(draw(st.permutations(fields))))


DAMAGE = st.sampled_from(
    [b"", *(bytes([c]) for c in b'"\\{}[]:,0129.eE-+ \t\n\r\x00\x1f\x7f\x80\xff'), b"ts", b"\\u", b'","']
)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A canonical line with bytes replaced, inserted or removed at one to three positions."""
    line = draw(canonical())
    for _ in range(draw(st.integers(1, 3))):
        at, taken = draw(st.integers(0, len(line))), draw(st.integers(0, 3))
        line = line[:at] + draw(DAMAGE | st.binary(max_size=3)) + line[at + taken :]
    return line


ANY_LINE = st.one_of(
    canonical(), objects(), damaged(), st.binary(max_size=120), st.text(string.printable).map(str.encode)
)
