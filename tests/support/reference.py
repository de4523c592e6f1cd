"""A second way to work out what vectors expect, from docs/routing.md and AMQP 0-9-1 alone, without any SDK.

Plain and slow: nothing is remembered, and nothing is checked.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import math
import struct
import zlib
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final

__all__ = ["Frame", "decide", "draw", "shape", "watch"]

_MULTIPLIERS: Final = {"explore": 0x9E3779B1, "follow": 0x85EBCA77, "notes": 0xC2B2AE3D}
_DEVICES: Final = {"web": 1, "mobile": 2}
_PART_NAMES: Final = {
    0: "its kind of payload",
    2: "its size",
    3: "its device",
    4: "the hour",
    5: "the weekday",
    6: "the priority given",
    7: "the expiry stated",
}


def draw(message_id: str, what: str) -> float:
    return zlib.crc32(message_id.encode()) * _MULTIPLIERS[what] % 2**32 / 2**32


def shape(data: Any, key: str) -> str:
    depth = 3
    while depth > 1 and _names(data, depth) > 256:
        depth -= 1
    text = _shape_text(data, depth)
    return hmac.new(hashlib.sha256(key.encode()).digest(), text.encode("ascii"), hashlib.sha256).hexdigest()[:16]


def _names(data: Any, levels: int) -> int:
    """Return the number of names that would be written."""
    if levels == 0 or not isinstance(data, (dict, list)):
        return 0
    if isinstance(data, list):
        return _names(data[0], levels - 1) if data else 0
    return 0 if len(data) > 64 else len(data) + sum(_names(each, levels - 1) for each in data.values())


def _shape_text(data: Any, levels: int) -> str:
    if isinstance(data, dict):
        if levels == 0 or len(data) > 64:
            return "object"
        members = [f"{json.dumps(name)}:{_shape_text(each, levels - 1)}" for name, each in data.items()]
        return "{" + ",".join(sorted(members)) + "}"
    if isinstance(data, list):
        return f"[{_shape_text(data[0], levels - 1)}]" if data and levels else "[]"
    if data is None:
        return "null"
    return "boolean" if isinstance(data, bool) else "string" if isinstance(data, str) else "number"


def decide(model: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a model answers for a message, as an expectation of a vector."""
    action, at = model["actions"][given["action"]], datetime.fromisoformat(given["at"]).astimezone(UTC)
    priority, expires, share = given.get("priority", 5), given.get("expires_ms"), given.get("share", 1)
    rules = 5 if priority is None else priority
    if rules < 8 and expires is not None and expires <= 30_000:
        rules = 8
    row = [
        *action["shapes"].get(given.get("shape", ""), action["unknown"]),
        given.get("bytes", 1_000),
        _DEVICES.get(given.get("device", "unknown"), 0),
        at.hour,
        at.weekday(),
        -1 if priority is None else priority,
    ]
    time, by_time = _forest(action["time"], row)
    left, by_left = _forest(action["left"], row)
    saving = None if action["saving"] is None else _forest(action["saving"], row)[0]
    answer: dict[str, Any] = {"rules": rules, "version": model["hash"][:12], "time": {"$near": time}}
    answer |= {"left": {"$near": left}, "saving": None if saving is None else {"$near": saving}}
    answer["compresses"] = saving is None or saving <= math.log(0.9)
    explore = model["explore"]
    if draw(given.get("message_id", "m-1"), "follow") >= share:
        return {"decided_by": "rules", "propensity": {"$near": 1 - share}, **answer}
    if draw(given.get("message_id", "m-1"), "explore") < explore:
        reason = "left to the rules, for comparison"
        chosen = {"decided_by": "explored", "priority": rules, "reason": reason}
        return {**chosen, "propensity": {"$near": share * explore}, **answer}
    index = action["policy"]["index"]
    parts = {feature: index["time"] * each for feature, each in by_time.items()}
    if expires is None:
        for feature, each in by_left.items():
            parts[feature] = parts.get(feature, 0.0) + index["left"] * each
    else:
        left = math.log(max(expires, 1))
        parts[7] = index["left"] * (left - sum(_root(tree) for tree in action["left"]["trees"]))
    chosen_priority = _priority(action["policy"], left, time)
    if rules >= 8 or expires is not None:
        chosen_priority = max(chosen_priority, rules)
    reason = f"learned: priority {chosen_priority}, {_words(parts)}"
    chosen = {"decided_by": "learned", "priority": chosen_priority, "reason": reason}
    return {**chosen, "propensity": {"$near": share * (1 - explore)}, **answer}


def _root(tree: Mapping[str, Any]) -> float:
    return float((tree["means"] or tree["leaves"])[0])


def _forest(forest: Mapping[str, Any], row: list[float]) -> tuple[float, dict[int, float]]:
    """Return a forest's answer, and what each feature adds to it; both of a shape's features are 0."""
    total, parts = 0.0, dict.fromkeys((0, 2, 3, 4, 5, 6), 0.0)
    for tree in forest["trees"]:
        node, mean = 0 if tree["features"] else -1, _root(tree)
        while node >= 0:
            feature = tree["features"][node]
            node = (tree["lefts"] if row[feature] <= tree["thresholds"][node] else tree["rights"])[node]
            there = tree["means"][node] if node >= 0 else tree["leaves"][-1 - node]
            parts[0 if feature == 1 else feature] += there - mean
            mean = there
        total += tree["leaves"][-1 - node]
    return total, parts


def _priority(policy: Mapping[str, Any], left: float, time: float) -> int:
    last = policy["last"]
    if last is not None and last["index"]["left"] * left + last["index"]["time"] * time > last["above"]:
        return 1
    index = policy["index"]["left"] * left + policy["index"]["time"] * time
    return 10 - len([level for level in policy["levels"] if level < index])


def _words(parts: Mapping[int, float]) -> str:
    largest = sorted((feature for feature in _PART_NAMES if feature in parts), key=lambda each: -abs(parts[each]))[:3]
    named = [each for each in largest if abs(parts[each]) > 0.001]
    words = [f"{'earlier' if parts[each] < 0 else 'later'} for {_PART_NAMES[each]}" for each in named]
    return ", ".join(words) or "like the average message"


def watch(model: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return what ends a model's use, and the last indexes, as an expectation of a vector."""
    action = model["actions"][given["action"]]
    decided: list[Mapping[str, Any]] = []
    errors: dict[str, list[float]] = {"time": [], "left": []}
    missed, seen = [0, 0], [0, 0]
    problem: list[str] | None = None
    drifts: dict[str, Any] = {}
    for event in (each for each in given["events"] for _ in range(each["times"])):
        if "decided" in event:
            decided.append(event["decided"])
            if len(decided) >= 1000 and len(decided) % 250 == 0:
                for name, spread in action["usual"]["spreads"].items():
                    index = _stability(spread, [each.get(name) for each in decided[-1000:]])
                    drifts[name] = {"$near": index}
                    if index - spread["ordinary"] > 0.25:
                        problem = problem or [name, f"{index:.2f}"]
            continue
        for kind, error in (("time", event.get("became")), ("left", event.get("stated"))):
            if error is not None:
                errors[kind].append(abs(error))
                mean = sum(errors[kind][-200:]) / 200
                if len(errors[kind]) >= 200 and mean > 2 * max(action["errors"][kind], 0.05):
                    problem = problem or [{"time": "handling times", "left": "times left"}[kind], f"{mean:.2f}"]
        if event.get("missed") is not None:
            seen[event["by_rules"]] += 1
            missed[event["by_rules"]] += event["missed"]
            if _odds(missed, seen) > 200:
                problem = problem or [f"{missed[0]} of {seen[0]} against {missed[1]} of {seen[1]}"]
    return {"problem": None if problem is None else {"$words": problem}, "drifts": drifts}


def _stability(spread: Mapping[str, Any], values: list[Any]) -> float:
    names, edges = spread["names"], spread["edges"]
    bins = [0] * len(spread["shares"])
    for each in values:
        if names:
            bins[names.index(each) if each in names else len(names)] += 1
        else:
            bins[0 if each is None else 1 + len([edge for edge in edges if edge < each])] += 1
    total = 0.0
    for count, then in zip(bins, spread["shares"], strict=True):
        here, there = max(count / len(values), 0.0001), max(then, 0.0001)
        total += (here - there) * math.log(here / there)
    return total


def _odds(missed: list[int], seen: list[int]) -> float:
    if min(seen) < 20 or sum(missed) < 20 or missed[0] / seen[0] <= missed[1] / seen[1]:
        return 1.0
    difference, usual = missed[0] / seen[0] - missed[1] / seen[1], 0.05**2
    common = (sum(missed) + 1) / (sum(seen) + 2)
    variance = common * (1 - common) * (1 / seen[0] + 1 / seen[1])
    evidence = difference**2 * usual / (2 * variance * (variance + usual))
    return math.sqrt(variance / (variance + usual)) * math.exp(min(evidence, 500))


class Frame:
    """The payload of an AMQP 0-9-1 content header frame, read from its first byte to its last."""

    _PROPERTIES: Final = (
        ("content_type", "s"),
        ("content_encoding", "s"),
        ("headers", "F"),
        ("delivery_mode", "B"),
        ("priority", "B"),
        ("correlation_id", "s"),
        ("reply_to", "s"),
        ("expiration", "s"),
        ("message_id", "s"),
        ("timestamp", "T"),
        ("message_type", "s"),
        ("user_id", "s"),
        ("app_id", "s"),
    )
    _NUMBERS: Final = {"b": "b", "B": "B", "s": "h", "u": "H", "I": "i", "i": "I", "l": "q", "f": "f", "d": "d"}

    def __init__(self, payload: bytes) -> None:
        self._rest = payload

    def properties(self) -> dict[str, Any]:
        """Return the properties that are set, with tags for what JSON does not have."""
        _, _, self.body_size, flags = self._unpack("HHQH")
        present = [each for bit, each in enumerate(self._PROPERTIES) if flags >> (15 - bit) & 1]
        return {name: self._property(kind) for name, kind in present}

    def _property(self, kind: str) -> Any:
        return self._take(self._unpack("B")[0]).decode() if kind == "s" else self._value(kind)

    def _value(self, kind: str) -> Any:
        """Return a field's value by RabbitMQ's and pamqp's letters."""
        if kind in self._NUMBERS:
            return _tagged(self._unpack(self._NUMBERS[kind])[0])
        match kind:
            case "t":
                return bool(self._take(1)[0])
            case "V":
                return None
            case "S" | "x":
                text = self._take(self._unpack("I")[0])
                return _text(text) if kind == "S" else {"$bytes": base64.b64encode(text).decode()}
            case "T":
                return {"$time": datetime.fromtimestamp(self._unpack("Q")[0], UTC).isoformat()}
            case "F":
                return dict(Frame(self._take(self._unpack("I")[0]))._members())
            case "A":
                return list(Frame(self._take(self._unpack("I")[0]))._elements())
        raise ValueError(kind)

    def _members(self) -> Iterator[tuple[str, Any]]:
        while self._rest:
            name = self._take(self._unpack("B")[0]).decode()
            yield name, self._value(self._letter())

    def _elements(self) -> Iterator[Any]:
        while self._rest:
            yield self._value(self._letter())

    def _letter(self) -> str:
        return self._take(1).decode()

    def _unpack(self, numbers: str) -> tuple[Any, ...]:
        return struct.unpack(f">{numbers}", self._take(struct.calcsize(f">{numbers}")))

    def _take(self, count: int) -> bytes:
        taken, self._rest = self._rest[:count], self._rest[count:]
        return taken


def _tagged(number: float) -> Any:
    if isinstance(number, int):
        return number if abs(number) < 2**53 else {"$integer": str(number)}
    return {"$float": repr(number)}


def _text(encoded: bytes) -> Any:
    """Return a header's text; bytes where it is not UTF-8."""
    try:
        return encoded.decode()
    except UnicodeDecodeError:
        return {"$bytes": base64.b64encode(encoded).decode()}
