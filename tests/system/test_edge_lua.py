"""The shipped Lua files. KumoMTA's runs against `kumo` as in its manual and a real edge; rspamd's is compiled by LuaJIT
(`make e2e` runs it in rspamd itself)."""

from __future__ import annotations

import socket
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from lupa.lua54 import LuaError, LuaRuntime
from lupa.luajit21 import LuaRuntime as LuaJitRuntime

from benchmarks.harness.ports import free_port
from tests.conftest import ROOT
from tests.support.edges import DEFERRAL, THROTTLED_IP, EdgeProcess, write_spent_snapshot
from tests.support.workers import environment

KUMOMTA = ROOT / "deploy/kumomta/tidegate.lua"
RSPAMD = ROOT / "deploy/rspamd/tidegate.lua"
TIMEOUT_S = {"1 second": 1.0}


class Rejected(Exception):
    """Raised by `kumo.reject`."""


class Response:
    """`kumo.http`'s response."""

    def __init__(self, status: int, body: str) -> None:
        self._status, self._body = status, body

    def status_code(self) -> int:
        return self._status

    def text(self) -> str:
        return self._body


class Request:
    """`kumo.http`'s client and request in one."""

    def __init__(self, timeout: str) -> None:
        self._timeout_s, self._url = TIMEOUT_S[timeout], ""

    def get(self, url: str) -> Request:
        self._url = url
        return self

    def send(self) -> Response:
        with urllib.request.urlopen(self._url, timeout=self._timeout_s) as response:
            return Response(response.status, response.read().decode())


class Meta:
    """A connection's metadata."""

    def __init__(self, **values: object) -> None:
        self.values: dict[str, object] = values

    def get_meta(self, name: str) -> object:
        return self.values.get(name)

    def set_meta(self, name: str, value: object) -> None:
        self.values[name] = value


def reject(code: int, text: str) -> None:
    raise Rejected(f"{code} {text}")


def policy(address: str) -> Any:
    """Return the shipped file as loaded by KumoMTA, for an edge at `address`."""
    lua = LuaRuntime(unpack_returned_tuples=True)

    def parse(text: str) -> object:
        return lua.table_from(orjson.loads(text), recursive=True)

    kumo = lua.table_from(
        {
            "http": lua.table_from({"build_client": lambda given: Request(given.timeout)}),
            "serde": lua.table_from({"json_parse": parse}),
            "reject": reject,
        }
    )
    lua.globals().package.loaded["kumo"] = kumo
    shipped = KUMOMTA.read_text()
    assert "http://127.0.0.1:10080" in shipped
    return lua.execute(shipped.replace("http://127.0.0.1:10080", address))


def check(tidegate: Any, meta: Meta) -> str:
    """Return the rejection of a message, "" for none."""
    try:
        tidegate.check(meta)
    except (Rejected, LuaError) as rejected:
        return str(rejected)
    return ""


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EdgeProcess]:
    folder = tmp_path_factory.mktemp("edge")
    write_spent_snapshot(folder / "state")
    with EdgeProcess(environment(f"127.0.0.1:{free_port()}", "x-", 4), folder) as running:
        yield running


@pytest.mark.parametrize("peer", [f"{THROTTLED_IP}:4711", f"[::ffff:{THROTTLED_IP}]:4711"])
def test_kumomta_rejects_a_throttled_client_with_the_edges_reply(edge: EdgeProcess, peer: str) -> None:
    tidegate, meta = policy(f"http://127.0.0.1:{edge.http}"), Meta(received_from=peer)

    assert [check(tidegate, meta) for _ in range(2)] == [DEFERRAL] * 2
    assert meta.values["tidegate_messages"] == 2


@pytest.mark.parametrize(
    "meta",
    [
        {"received_from": "192.0.2.8:4711"},
        {"received_from": "[2001:db8::7]:4711"},
        {"received_from": f"{THROTTLED_IP}:4711", "authn_id": "user"},
        {"received_from": "unix socket"},
        {},
    ],
)
def test_kumomta_passes_other_clients(edge: EdgeProcess, meta: dict[str, object]) -> None:
    assert check(policy(f"http://127.0.0.1:{edge.http}"), Meta(**meta)) == ""


def test_kumomta_passes_mail_when_the_edge_fails(edge: EdgeProcess) -> None:
    meta = Meta(received_from=f"{THROTTLED_IP}:4711")

    assert check(policy(f"http://127.0.0.1:{free_port()}"), meta) == ""
    assert check(policy(f"http://127.0.0.1:{edge.http}/elsewhere"), meta) == ""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert check(policy(f"http://127.0.0.1:{silent.getsockname()[1]}"), meta) == ""


@pytest.mark.parametrize("path", [RSPAMD, KUMOMTA], ids=["rspamd", "kumomta"])
def test_file_compiles_in_luajit(path: Path) -> None:
    assert LuaJitRuntime().compile(path.read_text())
