"""A simulated run: workers on a cluster, and a seed that decides the faults; its end is compared with the oracle.

Faults: workers killed between any two awaits, stopped, added; rebalances, also while partitions are being restored; workers
that the group has deposed and that keep writing; a slow or failing network; compaction. Then the faults end: the workers read
the rest, and state, decisions and offsets must be those of the oracle.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from dataclasses import replace
from ipaddress import ip_network
from types import SimpleNamespace
from unittest.mock import patch

from aiokafka.errors import KafkaError

from engine.config.load import Settings, load_settings
from engine.detector.budget import threshold_of
from engine.pipeline import build
from engine.state.partition import Partition
from engine.worker import changelog, publisher, shard
from tests.simulation.clients import NETWORK, Network, SimulatedConsumer, SimulatedProducer
from tests.simulation.clock import simulate
from tests.simulation.cluster import Cluster
from tests.simulation.judging import decision_differences, oracle_of, replay_of, state_differences
from tests.simulation.source import SourceTopic
from tests.simulation.worker import SimulatedWorker
from tests.support.sequences import HOUR_MS, START_MS
from topics.overrides import CONNECTOR, EXEMPT, Override

MAX_S = 300.0
MAX_WORKERS = 3
REVOKE_S = 3.0
SETTLE_S = 5.0
OUTSIDE = (KafkaError, changelog.Fenced, shard.CheckpointBarred)
CALM = dict.fromkeys(("slow", "stall", "batch", "end", "send", "decision", "commit", "rewind"), 0.0)
open_shard = shard.Shard.open


class World:
    """One run, which ``seed`` decides completely."""

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)
        self.seed = seed
        self.partitions = self.draw.choice((1, 2, 3))
        self._rows = self.draw.choice((1024, 32, 16))
        source = SourceTopic(self.draw, self.partitions, self.draw.choice((40, 150, 400)))
        self.cluster = Cluster(source, self.partitions)
        self.settings = self._settings()
        self.workers: list[SimulatedWorker] = []
        self._started = 0
        self._group = asyncio.Lock()
        self.others = (self.leave, self.join_late, self.rebalance, self.compact, self.compact)
        self._standby = self.draw.choice((0.0, 0.5, 1.0))
        self._slow: tuple[float, ...] = (0.0, 0.0, 0.02, 0.2, 0.6)
        self._trouble = {
            "stall": self.draw.choice((0.0, 0.0, 0.02, 0.05)),
            "send": self.draw.choice((0.0, 0.0, 0.0, 0.02)),
            "batch": self.draw.choice((0.0, 0.0, 0.1)),
            "end": self.draw.choice((0.0, 0.0, 0.1)),
            "decision": self.draw.choice((0.0, 0.0, 0.0, 0.02)),
            "commit": self.draw.choice((0.0, 0.2)),
            "rewind": self.draw.choice((0.0, 0.1, 0.3)),
        }

    def _settings(self) -> Settings:
        chosen = {
            "kafka.bootstrap": "simulated.invalid:9092",
            "topics.partitions": self.partitions,
            "worker.checkpoint_interval_ms": self.draw.choice((50, 200, 1000)),
            "worker.checkpoint_dirty_rows": self.draw.choice((1, 4, 1000)),
            "model.sensitivity": self.draw.choice(("normal", "1.6")),
            "model.learning_days": 0,
        }
        settings = load_settings(None, {}, chosen)  # it refuses a table so small that these few senders fill it
        return replace(settings, worker=replace(settings.worker, rows_per_partition=self._rows))

    @property
    def live(self) -> list[SimulatedWorker]:
        """The workers that are members of the group."""
        return [worker for worker in self.workers if not worker.ended.is_set() and not worker.membership.deposed]

    async def run(self) -> None:
        """Run faults until the events have arrived, then compare."""
        for _ in range(self.draw.choice((1, 1, 2))):
            await self.join()
        await self.rebalance()
        arrivals = asyncio.create_task(self._arrive())
        exempting = asyncio.create_task(self._exempt())
        for _ in range(self.draw.randint(2, 8)):
            await asyncio.sleep(self.draw.expovariate(1 / 0.4))
            await self._remove_ended()
            fault = self.draw.choice((self.crash,) * 4 + (self.zombie, self.zombie, self.storm) + self.others)
            self.cluster.seen[fault.__name__] += 1
            await fault()
        await arrivals
        await exempting
        await self._end_faults()
        await self._finish()

    async def join(self) -> None:
        """Add a worker; the next rebalance assigns partitions to it."""
        if len(self.live) < MAX_WORKERS:
            self._started += 1
            worker = SimulatedWorker(self.settings, self._network(f"worker {self._started}"))
            self.workers.append(worker)
            await worker.start()

    def _network(self, name: str) -> Network:
        return Network(self.cluster, f"{self.seed}/{name}", {**self._trouble, "slow": self.draw.choice(self._slow)})

    async def join_late(self) -> None:
        """Add a worker and rebalance."""
        await self.join()
        await self.rebalance()

    async def crash(self) -> None:
        """Kill a worker; another takes over, immediately or after a while."""
        if self.live:
            victim = self.draw.choice(self.live)
            await victim.kill()
            await asyncio.sleep(self.draw.choice((0.0, 0.05, 0.5)))
        await self._ensure_worker()
        await self.rebalance()

    async def leave(self) -> None:
        """Stop a worker gracefully."""
        if self.live:
            await self._stop(self.draw.choice(self.live))
        await self._ensure_worker()
        await self.rebalance()

    async def _stop(self, worker: SimulatedWorker) -> None:
        """Stop a worker gracefully; kill it if that takes too long."""
        stopping = worker.spawn(worker.stop())
        done, _ = await asyncio.wait([stopping], timeout=REVOKE_S * 10)
        if done and not stopping.cancelled() and stopping.exception() is not None:
            raise AssertionError("a worker did not stop") from stopping.exception()
        self.cluster.seen["killed while stopping"] += not done
        await worker.kill()

    async def zombie(self) -> None:
        """Let a deposed worker continue until it is killed or joins again."""
        deposed = await self._depose()
        if deposed is None:
            return
        await asyncio.sleep(self.draw.choice((0.0, 0.1, 1.0)))
        if self.draw.random() < 0.5:
            await deposed.kill()
        elif not deposed.ended.is_set():
            await self._revoke(deposed)
            deposed.membership.deposed = False
            self.cluster.seen["zombies that came back"] += 1
            await self.rebalance()

    async def storm(self) -> None:
        """Depose three workers, mostly while they restore; they continue."""
        for _ in range(3):
            await self._depose()
            await asyncio.sleep(self.draw.uniform(0.0, 0.5))

    async def _depose(self) -> SimulatedWorker | None:
        """Depose a worker that is silent for too long; its partitions go to others, which may open them slowly."""
        if not self.live:
            return None
        deposed = self.draw.choice(self.live)
        deposed.membership.deposed = True
        await self._ensure_worker()
        for worker in self.live:
            if self.draw.random() < 0.5:
                worker.network.trouble = {**worker.network.trouble, "slow": 0.8}
        await self.rebalance()
        return deposed

    async def compact(self) -> None:
        """Run the log cleaner."""
        for log in self.cluster.state:
            log.compact(self.draw)

    async def rebalance(self) -> None:
        """Rebalance eagerly, as Faust does: revoke all partitions, then assign them again."""
        async with self._group:
            await asyncio.gather(*(self._revoke(worker) for worker in self.live))
            members = self.live
            self.draw.shuffle(members)
            for i, worker in enumerate(members):
                owned = set(range(i, self.partitions, len(members)))
                others = set(range(self.partitions)) - owned
                standbys = {number for number in sorted(others) if self.draw.random() < self._standby}
                await worker.spawn(worker.assign(owned, standbys))

    async def _revoke(self, worker: SimulatedWorker) -> None:
        """Revoke a worker's partitions; depose it if that takes too long."""
        revoking = worker.spawn(worker.revoke())
        done, _ = await asyncio.wait([revoking], timeout=REVOKE_S)
        if not done:
            worker.membership.deposed = True
            self.cluster.seen["deposed while revoking"] += 1
        elif not revoking.cancelled() and revoking.exception() is not None:
            raise AssertionError("a revocation failed") from revoking.exception()

    async def _ensure_worker(self) -> None:
        if not self.live:
            await self.join()

    async def _remove_ended(self) -> None:
        """Remove workers that ended by themselves; the reason must be outside of the worker."""
        for worker in self.workers:
            if worker.failure is not None and not isinstance(worker.failure, OUTSIDE):
                raise AssertionError(f"{worker.network.name} ended by itself") from worker.failure
        ended = [worker for worker in self.workers if worker.ended.is_set() and worker.tasks]
        for worker in ended:
            await worker.kill()
        if ended:
            await self._ensure_worker()
            await self.rebalance()

    async def _arrive(self) -> None:
        """Write the events over time."""
        draw = random.Random(f"{self.seed}/arrivals")
        pace_s = draw.choice((0.005, 0.05, 0.1, 0.2))
        left = [partition for partition in self.cluster.source.partitions if partition.batches]
        while left:
            partition = draw.choice(left)
            partition.served += 1
            if partition.served == len(partition.batches):
                left.remove(partition)
            if draw.random() < 0.5:
                await asyncio.sleep(draw.expovariate(1 / pace_s))

    async def _exempt(self) -> None:
        """Exempt networks around senders, each from some event time on."""
        draw = random.Random(f"{self.seed}/orders")
        keys = [
            record.key for partition in self.cluster.source.partitions for _, record in partition.records if record.key
        ]
        for _ in range(draw.choice((0, 0, 1, 2, 4)) if keys else 0):
            await asyncio.sleep(draw.expovariate(1 / 0.5))
            network = ip_network(draw.choice(keys).decode())
            length = draw.choice((8, 16, 24, 32)) if network.version == 4 else draw.choice((32, 48, 64))
            created = START_MS + draw.randrange(draw.choice((1, 10, 2000)) * HOUR_MS)
            exempted = str(network.supernet(new_prefix=length))
            self.cluster.overrides.append(Override(exempted, EXEMPT, CONNECTOR, created, None))
            self.cluster.seen["orders"] += 1

    async def _end_faults(self) -> None:
        """End the faults and kill deposed workers; wait until the others have applied everything."""
        self._slow, self._trouble = (0.0,), CALM
        for worker in self.workers:
            worker.network.trouble = CALM
        await asyncio.sleep(SETTLE_S)
        await self._remove_ended()
        for worker in self.workers:
            if worker not in self.live:
                await worker.kill()
        await self._ensure_worker()
        await self.rebalance()
        while not self._done():
            await asyncio.sleep(0.1)
            await self._remove_ended()

    def _done(self) -> bool:
        applied = {
            shard.partition.number: shard.partition.applied_offset
            for worker in self.live
            for shard in worker.app.shards
        }
        ends = [partition.last_offset for partition in self.cluster.source.partitions]
        return all(end < 0 or applied.get(number, -1) >= end for number, end in enumerate(ends))

    async def _finish(self) -> None:
        for worker in self.live:
            await self._stop(worker)
        NETWORK.set(self._network("reader"))
        for number, partition in enumerate(self.cluster.source.partitions):
            state = build.partition(self.settings, number)
            await changelog.restore(state, "", {})
            self._compare(state)
            ends = (state.applied_offset, self.cluster.state[number].durable, self.cluster.committed[number] - 1)
            assert ends == (partition.last_offset,) * 3, (
                f"partition {number} ends at {ends}, not {partition.last_offset}"
            )
        oracle = oracle_of(self.cluster.source, threshold_of(self.settings.model.budget_percent), self._rows)
        differences = decision_differences(self.cluster.decisions, oracle, self.cluster.overrides, self.cluster.seen)
        assert not differences, "\n".join(differences[:10])
        self.cluster.seen["decisions"] += len(oracle.decisions)
        self.cluster.seen["decisions repeated"] += len(self.cluster.decisions) - len(oracle.decisions)
        self.cluster.seen["events"] += sum(partition.events for partition in oracle.partitions)
        self.cluster.seen["untracked"] += sum(partition.detector.untracked for partition in oracle.partitions)
        self.cluster.seen["evicted"] += sum(partition.detector.evicted for partition in oracle.partitions)
        self.cluster.seen["prefixes"] += sum(decided.verdict.prefix > 0 for decided in oracle.decisions.values())

    async def opened(self, mine: shard.Shard) -> None:
        """Open a shard; its restored state must be the oracle's at that offset."""
        warm = mine.partition.applied_offset >= 0
        await open_shard(mine)
        self._compare(mine.partition)
        self.cluster.seen["warm openings" if warm else "restores"] += mine.partition.keys > 0

    def _compare(self, partition: Partition) -> None:
        number, offset = partition.number, partition.applied_offset
        replay = replay_of(
            self.cluster.source, number, threshold_of(self.settings.model.budget_percent), self._rows, offset
        )
        differences = state_differences(partition, replay)
        assert not differences, f"partition {number} at {offset}:\n" + "\n".join(differences[:10])


def run_seed(seed: int) -> Counter[str]:
    """Run a seed and return the counts of what happened; raises if a check fails."""
    with (
        patch.object(changelog, "ResilientProducer", SimulatedProducer),
        patch.object(changelog, "BlockConsumer", SimulatedConsumer),
        patch.object(publisher, "ResilientProducer", SimulatedProducer),
        patch.object(shard, "time", SimpleNamespace(monotonic=lambda: asyncio.get_running_loop().time())),
    ):
        return simulate_world(seed)


def simulate_world(seed: int) -> Counter[str]:
    """Run a seed, with the clients of the engine already replaced."""

    async def run() -> Counter[str]:
        world = World(seed)

        async def opened(mine: shard.Shard) -> None:
            await world.opened(mine)

        with patch.object(shard.Shard, "open", opened):
            await world.run()
        return world.cluster.seen

    seen: Counter[str] = simulate(run(), MAX_S)
    return seen
