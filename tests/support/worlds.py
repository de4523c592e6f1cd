"""Synthetic worlds for routing that learns: messages whose true handling time and patience are known."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from heapq import heappop, heappush, heapreplace
from random import Random
from typing import Final

from kryonix.routing.known import Known, rules_priority
from kryonix.routing.outcomes import Outcome

__all__ = [
    "LOADS",
    "RECIPES",
    "Played",
    "Recipe",
    "Sent",
    "World",
    "by_rules",
    "changed",
    "live",
    "make",
    "missed",
    "play",
    "played",
    "shuffled",
]

LOADS: Final = (0.8, 0.95, 1.1)

_BEGIN: Final = 1_767_600_000.0
"""Monday, 5 January 2026, 08:00 UTC."""
_DAY_S: Final = 86_400.0
_WEEK_S: Final = 7 * _DAY_S
_CHANGED: Final = 100
"""The part of a world that comes after its change."""


@dataclass(frozen=True, slots=True)
class Sent:
    """A message as the sender's application knows it, and what is really true of it."""

    known: Known
    handled_ms: float
    patience_ms: float
    """It misses its deadline if it waits longer, whether the sender states the deadline or not."""
    usual: tuple[float, float]
    """Natural logarithms of both in ms for messages of this kind, size, device and time: the best guess of them."""

    @property
    def stated(self) -> bool:
        return self.known.expires_ms is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How the messages of a world come about. Spreads are standard deviations of natural logarithms."""

    name: str
    kinds: int = 12
    """Payload shapes, each with its own handling time and patience."""
    servers: int = 8
    handling_ms: float = 200.0
    """Mean over all messages."""
    patience: tuple[float, float] = (1.0, 1_000.0)
    """The kinds' medians lie between these multiples of the mean handling time."""
    handling_spread: float = 0.7
    """Between kinds."""
    handling_noise: float = 0.6
    """Within a kind."""
    pareto: float | None = None
    """Index of a Pareto tail of the handling times within a kind, instead of the lognormal noise."""
    patience_noise: float = 0.8
    size: tuple[float, float] = (0.3, 0.2)
    """What a body of twice the kind's usual size adds to the logarithms of handling time and patience."""
    mobile: float = -0.5
    """What it adds to the logarithm of the patience that a message comes from a mobile device."""
    hours: float = 0.0
    """How much the patience of a kind swings with the hour; each kind has its own worst hour."""
    days: float | None = None
    """Length of the world; the handling times follow from it. Without it, they are as above."""
    bursts: float = 1.0
    """The arrival rate within a burst, against that between bursts."""
    stated: float = 0.25
    """Share of senders who state their patience as an expiry."""
    given: float = 0.05
    """Share of senders who give a priority."""
    meaning: float = 0.5
    """Share of the given priorities that follow the patience; the others mean nothing."""


RECIPES: Final = {
    recipe.name: recipe
    for recipe in (
        Recipe(name="kinds"),
        Recipe(name="heavy tails", pareto=1.6, handling_spread=1.0),
        Recipe(name="bursts", bursts=8.0, patience=(5.0, 4_000.0)),
        Recipe(name="few stated", stated=0.03),
        Recipe(name="daily", servers=2, days=7.0, hours=2.5, kinds=4, patience=(4.0, 400.0)),
        Recipe(name="few shapes", kinds=1, size=(0.5, 1.2), mobile=-2.5, patience=(60.0, 60.0)),
        Recipe(name="shouting", given=0.6, meaning=0.1),
        Recipe(
            name="mixed",
            pareto=1.8,
            bursts=4.0,
            stated=0.05,
            days=5.0,
            hours=1.0,
            servers=4,
            size=(0.4, 0.5),
            mobile=-1.0,
            given=0.2,
            meaning=0.3,
        ),
    )
}


@dataclass(frozen=True, slots=True)
class World:
    """One action's messages in the order of sending, and the handlers that they share."""

    name: str
    messages: Sequence[Sent]
    servers: int
    load: float
    """The handlers' work that is sent, against what they can do."""
    recipe: Recipe
    seed: int


@dataclass(frozen=True, slots=True)
class _Kind:
    shape: str
    weight: float
    bytes: float
    handling: float
    """Logarithm, before all are scaled to the mean."""
    patience: float
    """Logarithm of the multiple of the mean handling time."""
    phase: float


def make(
    recipe: Recipe,
    *,
    load: float = 0.95,
    messages: int = 20_000,
    seed: int = 1,
    stated: float | None = None,
    part: int = 0,
) -> World:
    """Return the world of a recipe and a seed. The load only moves the messages together or apart, or what they take.

    `stated` is the share of senders who state their patience, instead of the recipe's. A later `part` has other
    messages of the same kinds.
    """
    recipe = recipe if stated is None else replace(recipe, stated=stated)
    return _build(recipe, _kinds(recipe, Random(f"kinds {seed}")), load, messages, seed, part)


def changed(world: World, *, messages: int = 20_000, handling: bool = True) -> World:
    """Return a later world of the same senders in which everything means the opposite.

    The most patient shape is now the least patient, and so on; what size, device and hour say is turned around. The
    messages themselves look like before. With `handling` false, what they take is as before too.
    """
    recipe = world.recipe
    kinds = _kinds(recipe, Random(f"kinds {world.seed}"))
    order = sorted(range(len(kinds)), key=lambda number: kinds[number].patience)
    turned = list(kinds)
    for one, other in zip(order, reversed(order), strict=True):
        meaning = kinds[other]
        turned[one] = replace(kinds[one], patience=meaning.patience, phase=meaning.phase)
        if handling:
            turned[one] = replace(turned[one], handling=meaning.handling)
    opposite = replace(
        recipe,
        name=f"{recipe.name}, changed",
        size=(-recipe.size[0] if handling else recipe.size[0], -recipe.size[1]),
        mobile=-recipe.mobile,
        hours=-recipe.hours,
    )
    # The shift keeps the mean of the patience: with few kinds, the device and the size carry it.
    return _build(opposite, turned, world.load, messages, world.seed, _CHANGED, shift=0.8 * recipe.mobile)


def _kinds(recipe: Recipe, random: Random) -> list[_Kind]:
    low, high = (math.log(each) for each in recipe.patience)
    places = [low + (high - low) * (number + 0.5) / recipe.kinds for number in range(recipe.kinds)]
    random.shuffle(places)
    return [
        _Kind(
            shape=f"{random.getrandbits(64):016x}",
            weight=random.uniform(0.5, 1.5),
            bytes=math.exp(random.gauss(math.log(2_000), 0.8)),
            handling=random.gauss(0, recipe.handling_spread),
            patience=place,
            phase=random.uniform(0, 24),
        )
        for place in places
    ]


def _build(
    recipe: Recipe,
    kinds: Sequence[_Kind],
    load: float,
    messages: int,
    seed: int,
    part: int,
    *,
    shift: float = 0.0,
) -> World:
    random = Random(f"messages {seed} {part}")
    arrivals, chosen = _arrivals(recipe, kinds, messages, random)
    drafts = [_draft(recipe, kind, random) for kind in chosen]
    mean = sum(draft.handling for draft in drafts) / messages
    if recipe.days is None:
        scale, span = recipe.handling_ms / mean, recipe.handling_ms * messages / recipe.servers / load / 1000
    else:
        span = recipe.days * _DAY_S
        scale = load * recipe.servers * span * 1000 / messages / mean
    usual = scale * mean / (load if recipe.days is not None else 1)
    stretch = span / arrivals[-1]
    begin = _BEGIN + part * math.ceil(span / _WEEK_S) * _WEEK_S
    sent = []
    for number, (draft, kind, arrival) in enumerate(zip(drafts, chosen, arrivals, strict=True)):
        at = begin + arrival * stretch
        swing = recipe.hours * math.cos((at % _DAY_S / 3600 - kind.phase) / 24 * math.tau)
        patience = usual * math.exp(draft.patience + swing + shift)
        guess = draft.usual[0] + math.log(scale), draft.usual[1] + math.log(usual) + swing + shift
        known = _known(recipe, draft, f"{part}-{number}", at, patience, usual)
        sent.append(Sent(known, draft.handling * scale, round(patience, 3), guess))
    return World(recipe.name, sent, recipe.servers, load, recipe, seed)


@dataclass(frozen=True, slots=True)
class _Draft:
    shape: str
    bytes: int
    device: str
    handling: float
    patience: float
    usual: tuple[float, float]
    draws: tuple[float, float, float, int]


def _draft(recipe: Recipe, kind: _Kind, random: Random) -> _Draft:
    size = random.gauss(0, 1.0)
    mobile = random.random() < 0.3
    if recipe.pareto is None:
        noise = math.exp(random.gauss(0, recipe.handling_noise))
    else:
        noise = min(random.paretovariate(recipe.pareto), 500.0)
    doublings = size / math.log(2)
    handling = kind.handling + recipe.size[0] * doublings
    patience = kind.patience + recipe.size[1] * doublings + recipe.mobile * mobile
    return _Draft(
        shape=kind.shape,
        bytes=max(round(kind.bytes * math.exp(size)), 2),
        device="mobile" if mobile else random.choice(("web", "unknown")),
        handling=noise * math.exp(handling),
        patience=patience + random.gauss(0, recipe.patience_noise),
        usual=(handling, patience),
        draws=(random.random(), random.random(), random.random(), random.randint(0, 10)),
    )


def _known(recipe: Recipe, draft: _Draft, message_id: str, at: float, patience_ms: float, usual: float) -> Known:
    states, gives, means, priority = draft.draws
    if means < recipe.meaning:
        low, high = (math.log(each * usual) for each in recipe.patience)
        share = (math.log(patience_ms) - low) / max(high - low, 1.0)
        priority = min(max(round(9 - 8 * share), 1), 9)
    return Known(
        module="crm",
        action="leads.create",
        at=at,
        message_id=message_id,
        bytes=draft.bytes,
        device=draft.device,
        shape=draft.shape,
        priority=priority if gives < recipe.given else None,
        expires_ms=round(patience_ms, 3) if states < recipe.stated else None,
    )


def _arrivals(recipe: Recipe, kinds: Sequence[_Kind], messages: int, random: Random) -> tuple[list[float], list[_Kind]]:
    """Return the times of sending in any unit, and who is sent: a Poisson process whose rate two states switch.

    Half the messages of a burst are of one kind.
    """
    at, times, chosen = 0.0, list[float](), list[_Kind]()
    burst: _Kind | None = None
    left = random.expovariate(1 / 200)
    while len(times) < messages:
        wait = random.expovariate(1.0 if burst is None else recipe.bursts)
        if recipe.bursts != 1 and wait > left:
            at += left
            # A burst has about as many messages as the time between two bursts.
            left = random.expovariate(1 / 200 * (1 if burst is not None else recipe.bursts))
            burst = random.choice(kinds) if burst is None else None
            continue
        at, left = at + wait, left - wait
        times.append(at)
        (kind,) = random.choices(kinds, [each.weight for each in kinds])
        chosen.append(burst if burst is not None and random.random() < 0.5 else kind)
    return times, chosen


@dataclass(frozen=True, slots=True)
class Played:
    """What became of one message: how long it waited in ms, and whether the broker dropped it as expired."""

    waited_ms: float
    expired: bool


def by_rules(world: World) -> list[int]:
    """Return the priority that the rules give to each message."""
    return [rules_priority(each.known.priority, each.known.expires_ms) for each in world.messages]


def play(world: World, priorities: Sequence[int]) -> list[Played]:
    """Play the world with these priorities: strict priority without preemption, first in first out within one.

    A message whose stated expiry has passed is dropped when its turn comes, without work, as RabbitMQ does.
    """
    return live(world, priorities.__getitem__)


def live(
    world: World, decide: Callable[[int], int], became: Callable[[int, Played], None] = lambda number, played: None
) -> list[Played]:
    """Play the world, and decide each priority when the message is sent, with what has become of others by then.

    Both functions are given the message's number. `became` is called when it is handled or dropped.
    """
    messages = world.messages
    arrivals = [(each.known.at - messages[0].known.at) * 1000 for each in messages]
    found: list[Played] = [Played(0.0, False)] * len(messages)
    free = [0.0] * world.servers
    waiting: list[tuple[int, int]] = []
    handling: list[tuple[float, int]] = []
    arrived = 0
    while arrived < len(messages) or waiting:
        now = free[0] if waiting else max(free[0], arrivals[arrived])
        while arrived < len(messages) and arrivals[arrived] <= now:
            while handling and handling[0][0] <= arrivals[arrived]:
                _, number = heappop(handling)
                became(number, found[number])
            heappush(waiting, (-decide(arrived), arrived))
            arrived += 1
        _, number = heappop(waiting)
        waited, expires = now - arrivals[number], messages[number].known.expires_ms
        expired = expires is not None and waited > expires
        found[number] = Played(waited, expired)
        if not expired:
            heapreplace(free, now + messages[number].handled_ms)
        heappush(handling, (now if expired else now + messages[number].handled_ms, number))
    return found


def missed(world: World, found: Sequence[Played]) -> int:
    """Return how many messages waited longer than their patience."""
    return sum(one.waited_ms > sent.patience_ms for one, sent in zip(found, world.messages, strict=True))


def played(world: World, priorities: Sequence[int] | None = None) -> list[Outcome]:
    """Return the outcomes of the world, with the priorities of the rules by default."""
    if priorities is None:
        priorities = by_rules(world)
    return list(_outcomes(world, priorities))


def _outcomes(world: World, priorities: Sequence[int]) -> Iterator[Outcome]:
    for sent, priority, one in zip(world.messages, priorities, play(world, priorities), strict=True):
        known = sent.known
        yield Outcome(
            module=known.module,
            action=known.action,
            at=known.at,
            message_id=known.message_id,
            bytes=known.bytes,
            device=known.device,
            shape=known.shape,
            priority=known.priority,
            expires_ms=known.expires_ms,
            waited_ms=None if one.expired else one.waited_ms,
            handled_ms=None if one.expired else sent.handled_ms,
            attempts=0 if one.expired else 1,
            outcome="expired" if one.expired else "done",
            priority_used=priority,
        )


def shuffled(outcomes: Sequence[Outcome], seed: int = 1) -> list[Outcome]:
    """Return the outcomes with what became of a message, its expiry too, given to any other one."""
    became = list(outcomes)
    Random(f"shuffled {seed}").shuffle(became)
    return [
        replace(
            outcome,
            expires_ms=other.expires_ms,
            waited_ms=other.waited_ms,
            handled_ms=other.handled_ms,
            attempts=other.attempts,
            outcome=other.outcome,
        )
        for outcome, other in zip(outcomes, became, strict=True)
    ]
