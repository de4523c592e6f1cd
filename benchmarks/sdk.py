"""Compare the SDK with bare aio-pika and pika, and with a model: `python -m benchmarks.sdk [--json] [--messages N]`.

Same work means: data of 1 KiB encoded as JSON, a message id, the same headers, persistent, mandatory, confirmed; and to
consume: decoded, handed to a coroutine, acknowledged, with the same prefetch. pika is used as its documentation
recommends. What the SDK does beyond that stays on: routing, compression, tracing, deadlines, asking for the queue. The
broker is that of KRYONIX_AMQP_URI, or else a new platform. Contenders take turns, and each figure is the median of the
rounds.

A model costs a few microseconds a send, which is less than two rounds differ. So the SDK without and with one send in
short turns, both connected all the time.
"""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles

from benchmarks.contenders import BareAioPika, Contender, Learned, Pika, Sdk
from benchmarks.report import Bound, Report
from tests.support.project import Project, tenant

ROUNDS = 5
MESSAGES = 10_000
ONE_BY_ONE = 1_000
LEARNED_RATIO = 0.95
"""Of the throughput of the rules, one by one."""
LEARNED_US = 10.0
"""What a model may add to a pipelined message: a twentieth of the time of one when the bound was set. A send is four
times as fast since."""
CPU_RATIO = 1.2
"""Of pika's CPU time for a message."""

TURNS = 60
"""Of the SDK without and with a model, each with a tenth of the messages."""

CONTENDERS: dict[str, type[Contender]] = {"sdk": Sdk, "aio_pika": BareAioPika, "pika": Pika}
WORKLOADS = ("send_many", "pipelined", "one_by_one", "consume")
LEAST = {
    ("send_many", "pika"): 1.0,
    ("pipelined", "aio_pika"): 2.0,
    ("one_by_one", "pika"): 0.95,
    ("consume", "pika"): 1.0,
}
"""What the SDK reaches at least, as a multiple of a contender's throughput."""
SENDING = ("pipelined", "one_by_one")


@dataclass(slots=True)
class Measured:
    """The results of all rounds of one contender and workload."""

    rates: list[float] = field(default_factory=list)
    cpu_us: list[float] = field(default_factory=list)
    p50_ms: list[float] = field(default_factory=list)
    p99_ms: list[float] = field(default_factory=list)

    def add(self, count: int, seconds: float, cpu: float, latencies: list[float]) -> None:
        self.rates.append(count / seconds)
        self.cpu_us.append(cpu / count * 1e6)
        cuts = quantiles(latencies, n=100)
        self.p50_ms.append(cuts[49] * 1e3)
        self.p99_ms.append(cuts[98] * 1e3)

    def figures(self, name: str) -> Iterator[tuple[str, float]]:
        yield f"{name}_per_s", median(self.rates)
        yield f"{name}_cpu_us", median(self.cpu_us)
        yield f"{name}_p50_ms", median(self.p50_ms)
        yield f"{name}_p99_ms", median(self.p99_ms)


async def measure(uri: str, messages: int) -> Report:
    results = {(name, workload): Measured() for name in CONTENDERS for workload in WORKLOADS}
    for number in range(-1, ROUNDS):
        # Who comes first changes from round to round; the round before the first warms up and does not count.
        order = list(CONTENDERS)[number % 3 :] + list(CONTENDERS)[: number % 3]
        for name in order:
            async with await CONTENDERS[name].connect(uri) as contender:
                for workload, count, run in (
                    ("pipelined", messages, contender.pipelined),
                    ("consume", messages, contender.consume),
                    ("send_many", messages, contender.send_many),
                    ("one_by_one", messages // 10, contender.one_by_one),
                ):
                    measured = await timed(run, count)
                    if number >= 0:
                        results[name, workload].add(count, *measured)
                await contender.consume(messages + messages // 10)
    return report(results | await in_turns(uri, messages // 10), messages)


async def in_turns(uri: str, messages: int) -> dict[tuple[str, str], Measured]:
    """Measure sending by the rules and by a model, in short turns."""
    results = {(name, workload): Measured() for name in ("rules", "model") for workload in SENDING}
    async with await Sdk.connect(uri) as rules, await Learned.connect(uri) as model:
        both = {"rules": rules, "model": model}
        # What the training has left would make each full collection of garbage ten times as long.
        gc.collect()
        gc.freeze()
        for number in range(-2, TURNS):
            for workload, count in (("pipelined", messages), ("one_by_one", messages // 10)):
                for name in sorted(both, reverse=number % 2 == 0):
                    contender = both[name]
                    run = contender.pipelined if workload == "pipelined" else contender.one_by_one
                    measured = await timed(run, count)
                    if number >= 0:
                        results[name, workload].add(count, *measured)
            await rules.consume(2 * (messages + messages // 10))
    return results


async def timed(run: Callable[[int], Awaitable[list[float]]], count: int) -> tuple[float, float, list[float]]:
    began, cpu = time.perf_counter(), time.process_time()
    latencies = await run(count)
    return time.perf_counter() - began, time.process_time() - cpu, latencies


def report(results: dict[tuple[str, str], Measured], messages: int) -> Report:
    figures = {
        name: value
        for (contender, workload), measured in results.items()
        for name, value in measured.figures(f"{workload}_{contender}")
    }
    bounds = []
    # Round by round, so that a machine that is slower for a while slows both.
    for (workload, other), least in LEAST.items():
        pairs = zip(results[other, workload].rates, results["sdk", workload].rates, strict=True)
        bounds.append(Bound(f"{workload}: {other} / SDK", median(theirs / ours for theirs, ours in pairs), 1 / least))
    for workload in WORKLOADS:
        pairs = zip(results["sdk", workload].cpu_us, results["pika", workload].cpu_us, strict=True)
        name = f"{workload}: CPU a message, SDK / pika"
        bounds.append(Bound(name, median(ours / theirs for ours, theirs in pairs), CPU_RATIO))
    rules, model = (results[name, "one_by_one"].rates for name in ("rules", "model"))
    ratio = median(one / other for one, other in zip(rules, model, strict=True))
    bounds.append(Bound("one_by_one: rules / a model", ratio, 1 / LEARNED_RATIO))
    rules, model = (results[name, "pipelined"].rates for name in ("rules", "model"))
    added = median((1 / other - 1 / one) * 1e6 for one, other in zip(rules, model, strict=True))
    bounds.append(Bound("pipelined: what a model adds to a message, µs", added, LEARNED_US))
    title = f"{messages} messages of 1 KiB ({messages // 10} one by one), median of {ROUNDS} rounds"
    return Report(title, figures, bounds)


@contextmanager
def broker() -> Iterator[str]:
    """Yield the AMQP URI of a tenant with portal, on a new broker unless the environment names one."""
    if uri := os.environ.get("KRYONIX_AMQP_URI"):
        yield uri
        return
    with tempfile.TemporaryDirectory() as folder:
        project = Project.platform(Path(folder) / "project", tenant("bench", "portal"))
        try:
            project.must("up")
            yield project.outputs()["tenants"]["bench"]["amqp_uri"]
        finally:
            project.remove()


def main() -> int:
    arguments = sys.argv[1:]
    messages = int(arguments[arguments.index("--messages") + 1]) if "--messages" in arguments else MESSAGES
    with broker() as uri:
        return asyncio.run(measure(uri, messages)).print()


if __name__ == "__main__":
    sys.exit(main())
