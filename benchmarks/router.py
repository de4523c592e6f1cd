"""Compare learned routing with the rules, a tuned table and an oracle: `python -m benchmarks.router [--json]`.

Worlds of `tests.support.worlds`, whose true deadlines are known. A model learns from what became of a world's messages
under the rules at load 0.95, and decides other messages of the same world at three loads. The table gives a priority
to each payload shape, in the order of the median expiry seen; of some cuts it has the one with the fewest missed
deadlines in the past, which it knows exactly. The oracle knows each message's deadline and handling time, and the best
of some weights of the two for these very messages. It keeps the promises that a model keeps: what has a stated expiry
or a given priority of 8 is never lowered, and the explored share stays where the rules put it. `free` is an oracle
without promises. `best_guess` knows of each message what can be known when it is sent: the usual deadline and handling
time of its kind, size, device and time, exactly, and also the best weights for these very messages.

Where few deadlines are missed, chance decides whether it is one more. So each load has three worlds, and a bound counts
as reached if chance alone would go beyond it as far in one of twenty tries.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import tempfile
import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import Final

from benchmarks.report import Bound, Report
from kryonix.errors import InvalidChoice
from kryonix.routing.known import EXPLORES, draw
from kryonix.routing.learned import Decider
from kryonix.routing.model import Model, read_model, write_model
from kryonix.training.training import EXPLORE, LONGEST, train
from tests.support.worlds import LOADS, RECIPES, Sent, World, by_rules, make, missed, play, played

TRAINED_AT: Final = 0.95
PARTS: Final = (1, 2, 3)
MESSAGES: Final = 20_000
"""In each of them."""
OF_RULES: Final = 0.5
OF_TABLE: Final = 0.8
OF_ORACLE: Final = 1.3
P99_US: Final = 50.0
ROUNDS: Final = 5
ARTIFACT_BYTES: Final = 1_000_000
IMPORT_MS: Final = 5.0
LINES: Final = 50_000
DECIDE_S: Final = 10.0

_CUTS: Final = (
    (0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875),
    (0.02, 0.05, 0.1, 0.2, 0.35, 0.55, 0.8),
    (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8),
)
"""Shares of the messages above the priorities 9 to 3."""
_WEIGHTS: Final = (0.0, 0.3, 0.6, 1.0, 2.0)
"""Of the logarithm of the handling time, against that of the deadline."""
_CHANCE: Final = 1.64
"""Standard deviations of a count, the square root of it, that chance exceeds in one of twenty tries."""
_OF_FEATURE: Final = (
    "kryonix.routing",
    "kryonix.messaging.learned",
    "kryonix.messaging.models",
    "kryonix.messaging.supervised",
    "kryonix.messaging.outcomes",
)


@dataclass(frozen=True, slots=True)
class Way:
    """Number of missed deadlines, and the longest wait of a handled message in ms."""

    missed: int
    longest_ms: float


@dataclass(frozen=True, slots=True)
class Cell:
    """A world at a load, by way of deciding."""

    name: str
    load: float
    ways: Mapping[str, Way]

    @property
    def bound(self) -> Bound:
        """At most 1 if the model misses few enough, against rules and table, or else against an oracle."""
        missed = {name: each.missed for name, each in self.ways.items()}
        few = min(OF_RULES * missed["rules"], OF_TABLE * missed["table"])
        most = max(few, OF_ORACLE * missed["oracle"], OF_ORACLE * missed["best_guess"])
        return Bound(f"missed: {self.name}, {self.load}", missed["model"] / max(most + _CHANCE * math.sqrt(most), 1), 1)


@dataclass(frozen=True, slots=True)
class Tried:
    """A world's cells, and its model's file and decisions. Without a model, why it was refused."""

    cells: list[Cell]
    content: bytes
    train_s: float
    refused: str | None = None


def tried(name: str) -> Tried:
    recipe = RECIPES[name]
    past = make(recipe, load=TRAINED_AT)
    outcomes = played(past)
    began, refused = time.perf_counter(), None
    model: Model | None = None
    content = b""
    try:
        content, _ = write_model(train(outcomes).model)
        model = read_model(content, name)
    except InvalidChoice as error:
        refused = str(error)
    train_s = time.perf_counter() - began
    table = tuned(past)
    cells = []
    for load in LOADS:
        worlds = [make(recipe, load=load, messages=MESSAGES, part=part) for part in PARTS]
        rules = [by_rules(one) for one in worlds]
        ours = rules if model is None else [decided(model, one) for one in worlds]
        tabled = [[table.get(each.known.shape, 5) for each in one.messages] for one in worlds]
        free, guesses = [orders(one, truth) for one in worlds], [orders(one, guess) for one in worlds]
        ways = {
            "rules": total(worlds, rules),
            "table": total(worlds, tabled),
            "model": total(worlds, ours),
            "oracle": best(worlds, all_promised(worlds, free, rules)),
            "best_guess": best(worlds, all_promised(worlds, guesses, rules)),
            "free": best(worlds, free),
        }
        cells.append(Cell(name, load, ways))
    return Tried(cells, content, train_s, refused)


def decided(model: Model, world: World) -> list[int]:
    decider = Decider(model.actions["crm.leads.create"], model.explore)
    return [decider.choose(each.known).priority for each in world.messages]


def p99_us(content: bytes, name: str) -> float:
    """Return the 99th percentile of the CPU times of a router's first 20,000 decisions.

    Each decision is timed in some rounds, and the least counts: others use this machine too.
    """
    model, world = read_model(content, name), make(RECIPES[name], part=1)
    rounds = []
    for _ in range(ROUNDS):
        decider, took = Decider(model.actions["crm.leads.create"], model.explore), list[float]()
        for each in world.messages:
            began = time.thread_time_ns()
            decider.choose(each.known)
            took.append((time.thread_time_ns() - began) / 1000)
        rounds.append(took)
    least: list[float] = [min(each) for each in zip(*rounds, strict=True)]
    return quantiles(least, n=100)[98]


def total(worlds: Sequence[World], priorities: Sequence[Sequence[int]]) -> Way:
    ways = [way(world, each) for world, each in zip(worlds, priorities, strict=True)]
    return Way(sum(each.missed for each in ways), max(each.longest_ms for each in ways))


def way(world: World, priorities: Sequence[int]) -> Way:
    found = play(world, priorities)
    return Way(missed(world, found), max(each.waited_ms for each in found if not each.expired))


def tuned(past: World) -> dict[str, int]:
    """Return the priority of each shape."""
    expiries, counts = defaultdict[str, list[float]](list), defaultdict[str, int](int)
    for each in past.messages:
        counts[each.known.shape] += 1
        if each.known.expires_ms is not None:
            expiries[each.known.shape].append(each.known.expires_ms)
    order = sorted(counts, key=lambda shape: median(expiries[shape] or [math.inf]))
    tables = []
    for cuts in _CUTS:
        before, table = 0.0, {}
        for shape in order:
            table[shape] = 9 - bisect_left(cuts, (before + counts[shape] / 2) / len(past.messages))
            before += counts[shape]
        tables.append(table)
    return min(tables, key=lambda table: way(past, [table[each.known.shape] for each in past.messages]).missed)


def truth(sent: Sent) -> tuple[float, float]:
    return math.log(sent.handled_ms), math.log(sent.patience_ms)


def guess(sent: Sent) -> tuple[float, float]:
    return sent.usual[0], math.log(sent.patience_ms) if sent.stated else sent.usual[1]


def orders(world: World, knows: Callable[[Sent], tuple[float, float]]) -> list[list[int]]:
    """Return some choices of all priorities, for handling times and deadlines (logarithms) that somebody knows."""
    found = []
    for weight in _WEIGHTS:
        index = [left + weight * handling for handling, left in map(knows, world.messages)]
        places = {number: place for place, number in enumerate(sorted(range(len(index)), key=index.__getitem__))}
        for cuts in _CUTS:
            found += [[9 - bisect_left(cuts, places[number] / len(index)) for number in range(len(index))]]
    return found


def promised(world: World, priorities: Sequence[int], rules: Sequence[int]) -> list[int]:
    """Return the priorities with what a model may not change."""
    found = []
    for each, ours, theirs in zip(world.messages, priorities, rules, strict=True):
        kept = theirs >= 8 or each.stated
        explored = draw(each.known.message_id, EXPLORES) < EXPLORE
        found.append(theirs if explored else max(ours, theirs) if kept else ours)
    return found


def all_promised(
    worlds: Sequence[World], choices: Sequence[Sequence[Sequence[int]]], rules: Sequence[Sequence[int]]
) -> list[list[list[int]]]:
    """Return the choices of each world with what a model may not change."""
    return [
        [promised(world, each, theirs) for each in some]
        for world, some, theirs in zip(worlds, choices, rules, strict=True)
    ]


def best(worlds: Sequence[World], choices: Sequence[Sequence[Sequence[int]]]) -> Way:
    """Return how the best choice does, the same in all worlds."""
    return min((total(worlds, each) for each in zip(*choices, strict=True)), key=lambda each: each.missed)


def import_ms() -> float:
    """Return what the feature's own modules add to `import kryonix.messaging`: the least of some new processes."""
    found = []
    for _ in range(ROUNDS):
        # A collection of garbage would count for the module in which it happens to come.
        program = "import gc; gc.disable(); import kryonix.messaging"
        command = [sys.executable, "-X", "importtime", "-c", program]
        lines = subprocess.run(command, capture_output=True, text=True, check=True).stderr.splitlines()[1:]
        rows = [line.removeprefix("import time:").split("|") for line in lines]
        own = [float(took) for took, _, name in rows if name.strip().startswith(_OF_FEATURE)]
        heavy = {name.strip() for _, _, name in rows} & {"numpy", "lightgbm"}
        assert not heavy, f"importing kryonix.messaging imports {', '.join(heavy)}"
        found.append(sum(own) / 1000)
    return min(found)


def decide_s(content: bytes, name: str) -> float:
    """Return how long `kryonix router decide` takes for LINES messages."""
    world = make(RECIPES[name], messages=LINES, part=2)
    fields = ("module", "action", "at", "message_id", "bytes", "device", "shape", "priority", "expires_ms")
    with tempfile.TemporaryDirectory() as folder:
        model, lines = Path(folder) / "model.json", Path(folder) / "messages.jsonl"
        model.write_bytes(content)
        asked = [{field: getattr(each.known, field) for field in fields} for each in world.messages]
        lines.write_text("".join(json.dumps(each) + "\n" for each in asked))
        command = [sys.executable, "-m", "kryonix", "router", "decide", "--model", str(model), str(lines)]
        began = time.perf_counter()
        answers = subprocess.run(command, capture_output=True, check=True).stdout.splitlines()
        took = time.perf_counter() - began
    assert [json.loads(each)["message_id"] for each in answers] == [each["message_id"] for each in asked]
    return took


def measure(names: Sequence[str]) -> Report:
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        results = dict(zip(names, pool.map(tried, names), strict=True))
    figures, bounds = dict[str, float](), list[Bound]()
    longest = 0.0
    for name, result in results.items():
        for cell in result.cells:
            for kind, found in cell.ways.items():
                figures[f"{name}_{cell.load}_missed_{kind}_percent"] = 100 * found.missed / MESSAGES / len(PARTS)
            waits = cell.ways["model"].longest_ms / cell.ways["rules"].longest_ms
            figures[f"{name}_{cell.load}_longest_of_rules"] = waits
            longest = max(longest, waits)
            bounds.append(cell.bound)
        figures[f"{name}_train_s"] = result.train_s
        if result.refused is not None:
            print(f"{name}: {result.refused}", file=sys.stderr)
    made = {name: result for name, result in results.items() if result.content}
    bounds.append(Bound("worlds without a model", len(results) - len(made), 0))
    bounds.append(Bound("longest wait, of the rules'", longest, LONGEST))
    if made:
        p99 = max(p99_us(result.content, name) for name, result in made.items())
        largest = max(made, key=lambda name: len(made[name].content))
        bounds += [
            Bound("decision p99, µs of CPU", p99, P99_US),
            Bound("artifact, bytes", len(made[largest].content), ARTIFACT_BYTES),
            Bound(f"decide, s for {LINES} lines", decide_s(made[largest].content, largest), DECIDE_S),
        ]
    bounds.append(Bound("import, ms more", import_ms(), IMPORT_MS))
    loads = ", ".join(map(str, LOADS))
    return Report(f"{len(names)} worlds of {len(PARTS)} × {MESSAGES:,} messages at loads {loads}", figures, bounds)


def main() -> int:
    return measure(list(RECIPES)).print()


if __name__ == "__main__":
    sys.exit(main())
