from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from numba.core.dispatcher import Dispatcher

from engine.pipeline.precompile import precompile
from engine.state.encode import cut_state
from engine.state.restore import Restoration
from engine.worker.changelog import add_block
from tests.support.bench import EVENTS, Bench, batch_of, block_of
from tests.support.fetches import Sent, at_offset, by_aiokafka
from tests.support.runs import fresh, state_of, wire_of


def compiled() -> Iterator[tuple[str, int]]:
    """Yield every kernel that Python can call, and the number of signatures that it has been compiled for."""
    for name, module in sorted(sys.modules.items()):
        if name.startswith(("topics.columns.", "engine.")):
            for kernel, value in sorted(vars(module).items()):
                if isinstance(value, Dispatcher):
                    yield f"{name}.{kernel}", len(value.signatures)


async def work() -> None:
    """Do all that a worker does with kernels: blocks with and without compression, poison, a checkpoint, a restore."""
    bench = Bench()
    await bench.apply(batch_of(EVENTS[:1000]) + batch_of(EVENTS[1000:2000], "lz4"))
    await bench.apply(at_offset(by_aiokafka([Sent(0, None, None), Sent(0, b"k", b"{}")]), 2000), 2000)
    cuts = [cut_state(bench.partition, 1)]
    restoration = Restoration(fresh(rows=4096))
    add_block(restoration, block_of(wire_of(cuts)))
    restoration.finish()
    assert state_of(restoration.partition) == state_of(bench.partition)


def test_worker_compiles_nothing_after_precompile(root: Path) -> None:
    """Run in a process of its own, because other tests compile kernels."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.engine.pipeline.test_precompile"],
        cwd=root,
        env=os.environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "nothing\n"), done.stderr


if __name__ == "__main__":
    assert precompile() > 0
    before = dict(compiled())
    asyncio.run(work())
    late = {name for name, count in compiled() if count > before.get(name, 0)}
    sys.stdout.write(f"{', '.join(sorted(late)) or 'nothing'}\n")
