"""OpenSMTPD's filter answers every question exactly once, whether or not the edge answers, and reconnects to an edge."""

from __future__ import annotations

import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from benchmarks.harness.ports import free_port
from engine.edge.opensmtpd_filter import PendingQuestions
from engine.edge.protocols.opensmtpd import REGISTRATION
from tests.support.edges import DEFERRAL, THROTTLED_IP, EdgeProcess, write_spent_snapshot
from tests.support.workers import environment

NAMES = st.tuples(st.sampled_from(["s1", "s2"]), st.integers(0, 9))


def question(session: str, token: int) -> bytes:
    return f"filter|0.6|1.0|smtp-in|mail-from|{session}|{token}|a@example.net".encode()


@given(st.lists(st.tuples(st.sampled_from(["ask", "answer", "wait"]), NAMES, st.integers(0, 5)), max_size=40))
def test_every_question_is_answered_exactly_once(
    moves: list[tuple[str, tuple[str, int], int]],
) -> None:
    pending, now_s, asked, answers = PendingQuestions(), 0.0, set[tuple[str, int]](), b""

    for move, name, pause_s in moves:
        now_s += pause_s
        if move == "ask" and name not in asked:
            asked.add(name)
            pending.add(question(*name), now_s)
        elif move == "answer":
            answers += pending.answer(f"filter-result|{name[0]}|{name[1]}|reject|451 x | y".encode())
        else:
            answers += pending.expire(now_s - 2)
    answers += pending.expire(now_s)

    lines = answers.decode().splitlines()
    assert Counter(tuple(line.split("|")[1:3]) for line in lines) == {(name, str(token)): 1 for name, token in asked}
    assert all(line.endswith(("|proceed", "|reject|451 x | y")) for line in lines)


@given(st.binary(max_size=60).filter(lambda line: b"\n" not in line))
def test_any_line_is_relayed_or_dropped(line: bytes) -> None:
    pending = PendingQuestions()
    pending.add(line, 0.0)

    assert pending.answer(line) in (b"", line + b"\n")
    assert pending.expire(0.0).count(b"\n") <= 1


def test_filter_connects_to_an_edge_started_later(tmp_path: Path) -> None:
    port = free_port()
    write_spent_snapshot(tmp_path / "edge/state")
    env = environment(f"127.0.0.1:{free_port()}", "x-", 4)
    command = [sys.executable, "-m", "engine.cli", "filter", f"127.0.0.1:{port}"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin
        assert process.stdout

        def ask(session: str) -> str:
            assert process.stdin
            assert process.stdout
            source = (
                f"report|0.6|1.0|smtp-in|link-connect|{session}|x|pass|{THROTTLED_IP}:1025|203.0.113.1:25\n".encode()
            )
            process.stdin.write(source + question(session, 1) + b"\n")
            process.stdin.flush()
            return process.stdout.readline().decode().rstrip("\n")

        process.stdin.write(b"config|ready\n")
        process.stdin.flush()
        assert b"".join(process.stdout.readline() for _ in range(REGISTRATION.count(b"\n"))) == REGISTRATION
        assert ask("a") == "filter-result|a|1|proceed"
        with EdgeProcess(env, tmp_path / "edge", OPENSMTPD=f"127.0.0.1:{port}"):
            deadline_s, number = time.monotonic() + 20, 0
            while (answer := ask(f"b{number}")) != f"filter-result|b{number}|1|reject|{DEFERRAL}":
                assert answer == f"filter-result|b{number}|1|proceed"
                assert time.monotonic() < deadline_s
                time.sleep(0.05)
                number += 1
        assert ask("c") == "filter-result|c|1|proceed"
        process.stdin.close()
        assert process.wait(20) == 0
