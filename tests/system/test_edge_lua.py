"""The shipped Lua: KumoMTA's against what its manual says of `kumo`, with a real edge behind it; rspamd's is read by its Lua
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

from benchmarks.ports import free_port
from tests.conftest import ROOT
from tests.support.edges import EdgeProcess
from tests.support.workers import environment
from tests.system.test_edge_protocols import IP, REFUSED, spent_snapshot

KUMOMTA = ROOT / "deploy/kumomta/tidegate.lua"
RSPAMD = ROOT / "deploy/rspamd/tidegate.lua"
TIMEOUT_S = {"1 second": 1.0}


class Rejected(Exception):
    """What `kumo.reject` raises."""


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
        with urllib.request.urlopen(self._url, timeout=self._timeout_s) as answer:
            return Response(answer.status, answer.read().decode())


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


def policy(place: str) -> Any:
    """The shipped file as a KumoMTA would have loaded it, for an edge at ``place``."""
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
    return lua.execute(shipped.replace("http://127.0.0.1:10080", place))


def check(tidegate: Any, meta: Meta) -> str:
    """The refusal of a message, "" for none."""
    try:
        tidegate.check(meta)
    except (Rejected, LuaError) as rejected:
        return str(rejected)
    return ""


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EdgeProcess]:
    folder = tmp_path_factory.mktemp("edge")
    spent_snapshot(folder / "state")
    with EdgeProcess(environment(f"127.0.0.1:{free_port()}", "x-", 4), folder) as running:
        yield running


@pytest.mark.parametrize("peer", [f"{IP}:4711", f"[::ffff:{IP}]:4711"])
def test_kumomta_refuses_a_throttled_client_with_the_edges_reply(edge: EdgeProcess, peer: str) -> None:
    tidegate, meta = policy(f"http://127.0.0.1:{edge.http}"), Meta(received_from=peer)
    assert [check(tidegate, meta) for _ in range(2)] == [REFUSED] * 2
    assert meta.values["tidegate_messages"] == 2


@pytest.mark.parametrize(
    "meta",
    [
        {"received_from": "192.0.2.8:4711"},
        {"received_from": "[2001:db8::7]:4711"},
        {"received_from": f"{IP}:4711", "authn_id": "somebody"},
        {"received_from": "unix socket"},
        {},
    ],
)
def test_kumomta_lets_all_others_pass(edge: EdgeProcess, meta: dict[str, object]) -> None:
    assert check(policy(f"http://127.0.0.1:{edge.http}"), Meta(**meta)) == ""


def test_kumomta_lets_mail_pass_without_an_edge_with_a_silent_one_and_with_another_server(edge: EdgeProcess) -> None:
    meta = Meta(received_from=f"{IP}:4711")
    assert check(policy(f"http://127.0.0.1:{free_port()}"), meta) == ""
    assert check(policy(f"http://127.0.0.1:{edge.http}/elsewhere"), meta) == ""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert check(policy(f"http://127.0.0.1:{silent.getsockname()[1]}"), meta) == ""


@pytest.mark.parametrize("path", [RSPAMD, KUMOMTA], ids=["rspamd", "kumomta"])
def test_luajit_reads_it(path: Path) -> None:
    assert LuaJitRuntime().compile(path.read_text())
