"""The look-up benchmark's loop, compiled: epoll, recv, compare, send, and nothing that the kernel doesn't do itself.

Python would need longer for a question than redis-server does for its answer, and would be what is measured. Sockets block,
so a question leaves whole; an answer is what one recv gives.
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
OCTETS = NDArray[np.uint8]
REPLY_OCTETS = 4096
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
    """Questions and how their answers begin, laid end to end; question n is ``octets[starts[n]:starts[n + 1]]``."""

    octets: OCTETS
    starts: INTS
    said: OCTETS
    begins: INTS


class Wires(NamedTuple):
    """Connections, by number: their sockets, the question under way, and when it was due, ns. ``numbers``: by socket; ``free``:
    a ring of those with none under way; ``counts``: `NEXT` and so on; ``latencies_ns``: of answers, as far as it reaches;
    they and `CPU_NS` leave out the warming up of a closed load."""

    fds: INTS
    numbers: INTS
    epoll: INTS
    question: INTS
    due_ns: INTS
    free: INTS
    events: NDArray[np.int32]
    reply: OCTETS
    clock: INTS
    counts: INTS
    latencies_ns: INTS


def asked(questions: Sequence[tuple[bytes, bytes]]) -> Asked:
    """From pairs of a question and the beginning of its answer."""
    octets, said = zip(*questions, strict=True)
    return Asked(*_laid(octets), *_laid(said))


def _laid(parts: Sequence[bytes]) -> tuple[OCTETS, INTS]:
    return np.frombuffer(b"".join(parts), np.uint8), np.cumsum([0, *map(len, parts)], dtype=np.int64)


def wires(sockets: Sequence[socket.socket], epoll: select.epoll, most: int) -> Wires:
    """Of connected sockets; latencies of at most so many answers."""
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
        np.zeros(REPLY_OCTETS, np.uint8),
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
    """Send the next question; whether it went out whole."""
    question = wires.counts[NEXT] % (len(asked.starts) - 1)
    wires.counts[NEXT] += 1
    wires.question[wire], wires.due_ns[wire] = question, due_ns
    start, size = np.uint64(asked.starts[question]), asked.starts[question + 1] - asked.starts[question]
    sent = _send(np.int32(wires.fds[wire]), asked.octets.ctypes.data + start, np.uint64(size), np.int32(0))
    return bool(sent == size)


@inline
def _take(asked: Asked, wires: Wires, wire: int, now_ns: int) -> bool:
    """Receive an answer and compare it; whether there was one."""
    got = _recv(np.int32(wires.fds[wire]), wires.reply.ctypes.data, np.uint64(REPLY_OCTETS), np.int32(0))
    if got <= 0:
        return False
    begin, end = asked.begins[wires.question[wire]], asked.begins[wires.question[wire] + 1]
    right = got >= end - begin
    for at in range(min(got, end - begin)):
        right = right and wires.reply[at] == asked.said[begin + at]
    wires.counts[ANSWERS] += 1
    wires.counts[WRONG] += not right
    if wires.counts[RECORDED] < len(wires.latencies_ns):
        wires.latencies_ns[wires.counts[RECORDED]] = now_ns - wires.due_ns[wire]
        wires.counts[RECORDED] += 1
    return True


@inline
def _answered(wires: Wires, wait_ms: int) -> int:
    """Wait for answers; how many connections have one."""
    epoll, most = np.int32(wires.epoll[0]), np.int32(len(wires.fds))
    return int(_wait(epoll, wires.events.ctypes.data, most, np.int32(wait_ms)))


@kernel
def closed(asked: Asked, wires: Wires, warm_ns: int, measured_ns: int) -> float:
    """Ask as fast as answers come; answers a second behind the warming up. `BROKEN` if a connection was closed."""
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
            if not _take(asked, wires, wire, now_ns) or not _ask(asked, wires, wire, now_ns):
                return BROKEN
        if now_ns > end_ns:
            if counting:
                wires.counts[CPU_NS] = _now_ns(wires, THREAD_CPU) - cpu_ns
                return float((wires.counts[ANSWERS] - counted_from) * SECOND_NS / (now_ns - began_ns))
            counting, began_ns, end_ns, counted_from = True, now_ns, now_ns + measured_ns, wires.counts[ANSWERS]
            wires.counts[RECORDED], cpu_ns = 0, _now_ns(wires, THREAD_CPU)


@kernel
def opened(asked: Asked, wires: Wires, gap_ns: float, total: int) -> float:
    """Ask a question every ``gap_ns``, ``total`` of them, whoever is slow; answers a second. `BROKEN` as with `closed`."""
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
            if not _take(asked, wires, wire, now_ns):
                return BROKEN
            wires.free[(first + idle) % count] = wire
            idle += 1
    wires.counts[CPU_NS] = _now_ns(wires, THREAD_CPU) - cpu_ns
    return float(wires.counts[ANSWERS] * SECOND_NS / (_now_ns(wires) - began_ns))
