from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from engine.config.load import Settings, load_settings
from engine.detector.relays import NO_RELAY, relay_key, relays_of
from tests.support.kernels import relay_of_one
from topics.errors import OperatorError
from topics.keys import key_of


def settings_of(tmp_path: Path, relays: str) -> Settings:
    file = tmp_path / "tidegate.toml"
    file.write_text(relays, encoding="utf-8")
    return load_settings(file, {}, {})


def test_relays_written_differently_are_equal(tmp_path: Path) -> None:
    one = settings_of(
        tmp_path, '[relays]\nesp = ["192.0.2.0/25", "2001:db8::/40", "192.0.2.128/25"]\n"a-b.c" = ["10.0.0.7/32"]'
    )
    other = settings_of(
        tmp_path, '[relays]\n"a-b.c" = ["10.0.0.7"]\nesp = ["2001:db8::/40", "192.0.2.0/24", "192.0.2.9/32"]'
    )
    assert one.relays == {"a-b.c": ("10.0.0.7/32",), "esp": ("192.0.2.0/24", "2001:db8::/40")}
    assert one == other
    assert one.config_hash() == other.config_hash() != Settings().config_hash()
    assert settings_of(tmp_path, "[relays]") == load_settings(None, {}, {})


@pytest.mark.parametrize(
    ("relays", "expected"),
    [
        ("relays = 3", "relays must be a section: write [relays]"),
        ("[relays]\nesp = '192.0.2.0/24'", "relays.esp = '192.0.2.0/24': give a list of networks such as"),
        ("[relays]\nesp = []", "relays.esp = []: give a list of networks"),
        ("[relays]\nesp = [3]", "relays.esp = [3]: give a list of networks"),
        ("[relays]\nesp = ['192.0.2.1/24']", "relays.esp: 192.0.2.1/24 has host bits set: give networks such as"),
        (
            "[relays]\nesp = ['mail.example']",
            "relays.esp: 'mail.example' does not appear to be an IPv4 or IPv6 network",
        ),
        ("[relays]\nesp = ['2001:db8::/96']", "relays.esp: '2001:db8::/96' is smaller than a /64"),
        ("[relays]\nesp = ['ff00::/8']", "relays.esp: 'ff00::/8' holds multicast addresses"),
        ("[relays]\n'a b' = ['192.0.2.0/24']", "relays: 'a b': give a name of 1 to 60 letters"),
        (
            "[relays]\nesp = ['10.0.0.0/8']\nother = ['10.9.0.0/16']",
            "relays.esp (10.0.0.0/8) and relays.other (10.9.0.0/16) share addresses",
        ),
    ],
)
def test_invalid_relays_are_refused_in_one_line_with_file_and_fault(tmp_path: Path, relays: str, expected: str) -> None:
    with pytest.raises(OperatorError) as raised:
        settings_of(tmp_path, relays)
    message = str(raised.value)
    assert message.startswith(f"{tmp_path / 'tidegate.toml'}: {expected}")
    assert "\n" not in message


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("192.0.1.255", ""), ("192.0.2.0", "esp"), ("192.0.2.255", "esp"), ("192.0.3.0", ""), ("10.0.0.7", "one"),
        ("10.0.0.6", ""), ("2001:db8::1", "esp"), ("2001:db8:ff:ffff::", "esp"), ("2001:db8:100::", ""), ("::", ""),
    ],
)  # fmt: skip
def test_address_belongs_to_the_relay_whose_network_contains_it(address: str, name: str) -> None:
    relays = relays_of({"esp": ("192.0.2.0/24", "2001:db8::/40"), "one": ("10.0.0.7/32",)})
    assert relay_of_one(relays, np.uint64(key_of(address))) == (relay_key(name) if name else NO_RELAY)
    assert relay_of_one(relays_of({}), np.uint64(key_of(address))) == NO_RELAY
