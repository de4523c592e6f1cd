"""Compare the TypeScript SDK with bare amqplib: `python -m benchmarks.sdk_typescript [--json] [--messages N]`.

The same work as in benchmarks/sdk.py, done by sdk/typescript/bench/rounds.ts. The broker is that of KRYONIX_AMQP_URI,
or else a new platform. Contenders take turns, and each figure is the median of the rounds.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Final

from benchmarks.report import Bound, Report
from benchmarks.sdk import broker
from tests.support.typescript import NODE

ROUNDS: Final = 7
MESSAGES: Final = 10_000
RATIO: Final = 0.9
"""Of bare amqplib's throughput."""
WORKLOADS: Final = ("pipelined", "one_by_one", "consume")
UNITS: Final = {"perSecond": "per_s", "cpu": "cpu_us", "p50": "p50_ms", "p99": "p99_ms"}

Results = Mapping[str, Mapping[str, Sequence[Mapping[str, float]]]]
"""By contender and workload, the results of each round."""


def measure(uri: str, messages: int) -> Results:
    command = [str(NODE), "node", "bench/rounds.ts", uri, str(messages), str(ROUNDS)]
    ran = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    results: Results = json.loads(ran.stdout)
    return results


def report(results: Results, messages: int) -> Report:
    figures = {
        f"{workload}_{contender}_{unit}": median(each[name] for each in results[contender][workload])
        for workload in WORKLOADS
        for contender in results
        for name, unit in UNITS.items()
    }
    bounds = []
    for workload in WORKLOADS:
        # Round by round, so that a machine that is slower for a while slows both.
        pairs = zip(results["amqplib"][workload], results["sdk"][workload], strict=True)
        ratio = median(bare["perSecond"] / sdk["perSecond"] for bare, sdk in pairs)
        bounds.append(Bound(f"{workload}: bare amqplib / SDK", ratio, 1 / RATIO))
    title = f"TypeScript: {messages} messages of 1 KiB ({messages // 10} one by one), median of {ROUNDS} rounds"
    return Report(title, figures, bounds)


def main() -> int:
    arguments = sys.argv[1:]
    messages = int(arguments[arguments.index("--messages") + 1]) if "--messages" in arguments else MESSAGES
    with broker() as uri:
        return report(measure(uri, messages), messages).print()


if __name__ == "__main__":
    sys.exit(main())
