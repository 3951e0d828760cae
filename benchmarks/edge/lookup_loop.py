"""The compiled loop of the look-up benchmark: epoll, recv, compare, send, and nothing that the kernel doesn't do itself.

A loop in Python would need longer for a question than redis-server for its answer, and so would be what is measured.
Sockets block, so a question leaves as a whole; an answer is what one recv returns.
"""

from __future__ import annotations

import platform
import select
import socket
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numba import types
from numpy.typing import NDArray

from topics.columns.jit import inline, kernel

INTS = NDArray[np.int64]
BYTES = NDArray[np.uint8]
REPLY_BYTES = 4096
NEXT, ANSWERS, WRONG, RECORDED, CPU_NS = range(5)
MONOTONIC, THREAD_CPU = 1, 3
SECOND_NS = 1_000_000_000
SPIN_NS = 1_000_000  # epoll waits whole milliseconds: what is due sooner is waited for by asking again
BROKEN = -1.0
EVENT_WORDS = 3 if platform.machine() == "x86_64" else 4  # of 32 bits; only there it is packed
DATA_WORD = EVENT_WORDS - 2

_send = types.ExternalFunction("send", types.intp(types.int32, types.uintp, types.uintp, types.int32))
_recv = types.ExternalFunction("recv", types.intp(types.int32, types.uintp, types.uintp, types.int32))
_wait = types.ExternalFunction("epoll_wait", types.int32(types.int32, types.uintp, types.int32, types.int32))
_clock = types.ExternalFunction("clock_gettime", types.int32(types.int32, types.uintp))


class Asked(NamedTuple):
    """Questions and the beginnings of their answers, concatenated."""

    questions: BYTES
    question_starts: INTS  # question n is questions[question_starts[n] : question_starts[n + 1]]
    answers: BYTES
    answer_starts: INTS


class Wires(NamedTuple):
    """Connections by number, and counts. Latencies and `CPU_NS` leave out the warm-up of a closed load."""

    fds: INTS  # sockets
    numbers: INTS  # connections by socket
    epoll: INTS  # its descriptor
    question: INTS  # under way
    due_ns: INTS  # of that question
    free: INTS  # ring of connections without a question
    events: NDArray[np.int32]  # epoll's
    reply: BYTES
    clock: INTS
    counts: INTS  # by `NEXT`, `ANSWERS`, `WRONG`, `RECORDED`, `CPU_NS`
    latencies_ns: INTS  # of the first answers, up to its length


def asked(questions: Sequence[tuple[bytes, bytes]]) -> Asked:
    """Return the arrays of pairs of a question and the beginning of its answer."""
    texts, answers = zip(*questions, strict=True)
    return Asked(*_concatenated(texts), *_concatenated(answers))


def _concatenated(parts: Sequence[bytes]) -> tuple[BYTES, INTS]:
    return np.frombuffer(b"".join(parts), np.uint8), np.cumsum([0, *map(len, parts)], dtype=np.int64)


def wires(sockets: Sequence[socket.socket], epoll: select.epoll, most: int) -> Wires:
    """Return connected sockets; ``most`` latencies are recorded."""
    fds = np.array([connected.fileno() for connected in sockets], np.int64)
    numbers, count = np.zeros(fds.max() + 1, np.int64), len(fds)
    numbers[fds] = np.arange(count)
    for connected in sockets:
        epoll.register(connected.fileno(), select.EPOLLIN)
    return Wires(
        fds,
        numbers,
        np.array([epoll.fileno()], np.int64),
        np.zeros(count, np.int64),
        np.zeros(count, np.int64),
        np.arange(count, dtype=np.int64),
        np.zeros(count * EVENT_WORDS, np.int32),
        np.zeros(REPLY_BYTES, np.uint8),
        np.zeros(2, np.int64),
        np.zeros(5, np.int64),
        np.zeros(most, np.int64),
    )


@inline
def _now_ns(wires: Wires, clock: int = MONOTONIC) -> int:
    _clock(np.int32(clock), wires.clock.ctypes.data)
    return int(wires.clock[0] * SECOND_NS + wires.clock[1])


@inline
def _ask(asked: Asked, wires: Wires, wire: int, due_ns: int) -> bool:
    """Send the next question; return True if it was sent whole."""
    question = wires.counts[NEXT] % (len(asked.question_starts) - 1)
    wires.counts[NEXT] += 1
    wires.question[wire], wires.due_ns[wire] = question, due_ns
    start = asked.question_starts[question]
    size = asked.question_starts[question + 1] - start
    address = asked.questions.ctypes.data + np.uint64(start)
    sent = _send(np.int32(wires.fds[wire]), address, np.uint64(size), np.int32(0))
    return bool(sent == size)


@inline
def _receive(asked: Asked, wires: Wires, wire: int, now_ns: int) -> bool:
    """Receive an answer and compare it; return True if there was one."""
    got = _recv(np.int32(wires.fds[wire]), wires.reply.ctypes.data, np.uint64(REPLY_BYTES), np.int32(0))
    if got <= 0:
        return False
    begin, end = asked.answer_starts[wires.question[wire]], asked.answer_starts[wires.question[wire] + 1]
    right = got >= end - begin
    for at in range(min(got, end - begin)):
        right = right and wires.reply[at] == asked.answers[begin + at]
    wires.counts[ANSWERS] += 1
    wires.counts[WRONG] += not right
    if wires.counts[RECORDED] < len(wires.latencies_ns):
        wires.latencies_ns[wires.counts[RECORDED]] = now_ns - wires.due_ns[wire]
        wires.counts[RECORDED] += 1
    return True


@inline
def _answered(wires: Wires, wait_ms: int) -> int:
    """Wait for answers; return how many connections have one."""
    epoll, most = np.int32(wires.epoll[0]), np.int32(len(wires.fds))
    return int(_wait(epoll, wires.events.ctypes.data, most, np.int32(wait_ms)))


@kernel
def closed(asked: Asked, wires: Wires, warm_ns: int, measured_ns: int) -> float:
    """Ask as fast as answers come; return the answers per second after the warm-up, `BROKEN` if a connection was closed."""
    began_ns, counting = _now_ns(wires), False
    counted_from, cpu_ns, end_ns = 0, 0, began_ns + warm_ns
    for wire in range(len(wires.fds)):
        if not _ask(asked, wires, wire, began_ns):
            return BROKEN
    while True:
        count, now_ns = _answered(wires, 1000), _now_ns(wires)
        if count < 0:
            return BROKEN
        for at in range(count):
            wire = wires.numbers[wires.events[at * EVENT_WORDS + DATA_WORD]]
            if not _receive(asked, wires, wire, now_ns) or not _ask(asked, wires, wire, now_ns):
                return BROKEN
        if now_ns > end_ns:
            if counting:
                wires.counts[CPU_NS] = _now_ns(wires, THREAD_CPU) - cpu_ns
                return float((wires.counts[ANSWERS] - counted_from) * SECOND_NS / (now_ns - began_ns))
            counting, began_ns, end_ns, counted_from = True, now_ns, now_ns + measured_ns, wires.counts[ANSWERS]
            wires.counts[RECORDED], cpu_ns = 0, _now_ns(wires, THREAD_CPU)


@kernel
def opened(asked: Asked, wires: Wires, gap_ns: float, total: int) -> float:
    """Ask ``total`` questions, one every ``gap_ns`` even if answers are late; return as `closed` does."""
    began_ns, cpu_ns, count = _now_ns(wires), _now_ns(wires, THREAD_CPU), len(wires.fds)
    sent, first, idle = 0, 0, count
    while sent < total or idle < count:
        now_ns = _now_ns(wires)
        while idle and sent < total and began_ns + int(sent * gap_ns) <= now_ns:
            if not _ask(asked, wires, wires.free[first], began_ns + int(sent * gap_ns)):
                return BROKEN
            first, idle, sent = (first + 1) % count, idle - 1, sent + 1
        left_ns = began_ns + int(sent * gap_ns) - now_ns
        wait_ms = 1000 if not idle or sent == total else 0 if left_ns < SPIN_NS else left_ns // SPIN_NS
        answered, now_ns = _answered(wires, wait_ms), _now_ns(wires)
        if answered < 0:
            return BROKEN
        for at in range(answered):
            wire = wires.numbers[wires.events[at * EVENT_WORDS + DATA_WORD]]
            if not _receive(asked, wires, wire, now_ns):
                return BROKEN
            wires.free[(first + idle) % count] = wire
            idle += 1
    wires.counts[CPU_NS] = _now_ns(wires, THREAD_CPU) - cpu_ns
    return float(wires.counts[ANSWERS] * SECOND_NS / (_now_ns(wires) - began_ns))
