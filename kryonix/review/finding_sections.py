"""The sections of a report about findings: blocking ones, how to accept them, and accepted ones."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from kryonix.review.differences import nameless
from kryonix.review.escaping import code, cut, names, prose
from kryonix.review.guardrails import ACCEPTED_FILE, Acceptance, Finding, Guardrail, Judgement

_NAMES_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Row:
    """Findings shown as one: of one guardrail, about similar objects, of one tenant or of several."""

    guardrail: Guardrail
    tenants: tuple[str, ...]
    objects: tuple[str, ...]
    """The objects of the first tenant."""
    message: str

    @property
    def pattern(self) -> str:
        """Return the object of the first tenant, or a pattern for all of its objects."""
        return self.objects[0] if len(self.objects) == 1 else f"{_stem(self.objects[0])}*"

    @property
    def entry(self) -> str:
        """Return the row's entry for accepted-changes.yaml."""
        tenant = "*" if len(self.tenants) > 1 else self.tenants[0]
        object_ = self.pattern if len(self.tenants) == 1 else nameless(self.tenants[0], self.pattern, "*")
        whose = f"    tenant: {_scalar(tenant)}\n" if tenant else ""
        head = f"  - guardrail: {self.guardrail.label}\n{whose}"
        return f"{head}    object: {_scalar(object_)}\n    reason: write why this is intended\n"


def rows(findings: Iterable[Finding]) -> tuple[Row, ...]:
    """Return findings with similar ones together, ordered by guardrail and tenant."""
    by: dict[tuple[Guardrail, str, str], list[Finding]] = {}
    for finding in findings:
        similar = _stem(finding.object) if finding.guardrail is Guardrail.queue_lost else finding.object
        by.setdefault((finding.guardrail, finding.tenant, similar), []).append(finding)
    alike: dict[tuple[object, ...], list[list[Finding]]] = {}
    for (guardrail, tenant, _), found in by.items():
        texts = tuple((nameless(tenant, f.object), nameless(tenant, f.message)) for f in found)
        alike.setdefault((guardrail, texts), []).append(found)
    order = list(Guardrail)
    made = []
    for groups in alike.values():
        tenants, objects = (each[0].tenant for each in groups), (each.object for each in groups[0])
        made.append(Row(groups[0][0].guardrail, tuple(tenants), tuple(objects), groups[0][0].message))
    return tuple(sorted(made, key=lambda row: (order.index(row.guardrail), row.tenants[0], row.objects[0])))


def finding_sections(judgement: Judgement, most: int | None) -> Iterator[str]:
    """Yield the non-empty sections, with tables cut after `most` rows."""
    if judgement.blocking:
        yield _blocking(rows(judgement.blocking), most)
    if judgement.accepted:
        yield _accepted(judgement.accepted, most)
    if judgement.unmatched or judgement.spent:
        yield _idle(judgement, most)


def _blocking(found: Sequence[Row], most: int | None) -> str:
    lines = ["### ⛔ Blocked", "", "| guardrail | tenant | object | why |", "|---|---|---|---|"]
    for row in found[:most]:
        whose = names([tenant for tenant in row.tenants if tenant], _NAMES_SHOWN)
        each = " each" if len(row.tenants) > 1 else ""
        what = code(row.pattern) + (f" ({len(row.objects)} queues{each})" if len(row.objects) > 1 else "")
        lines.append(f"| `{row.guardrail.label}` | {whose} | {what} | {prose(row.message)} |")
    lines += cut(len(found), most)
    lines += ["", f"<details><summary>To accept this, add to {code(ACCEPTED_FILE)} in this change</summary>", ""]
    entries = [row.entry for row in found[:most]]
    return "\n".join([*lines, "```yaml", "accepted:", "".join(entries).rstrip(), "```", "", "</details>"]) + "\n"


def _accepted(accepted: Sequence[tuple[Finding, Acceptance]], most: int | None) -> str:
    reasons: dict[tuple[Guardrail, str], list[Finding]] = {}
    for finding, entry in accepted:
        reasons.setdefault((finding.guardrail, entry.reason), []).append(finding)
    lines = ["### Accepted in this change", "", "| guardrail | tenant | object | reason |", "|---|---|---|---|"]
    for (guardrail, reason), found in list(reasons.items())[:most]:
        whose = names(list(dict.fromkeys(finding.tenant for finding in found if finding.tenant)), _NAMES_SHOWN)
        what = names([finding.object for finding in found], _NAMES_SHOWN)
        lines.append(f"| `{guardrail.label}` | {whose} | {what} | {code(reason)} |")
    return "\n".join([*lines, *cut(len(reasons), most)]) + "\n"


def _idle(judgement: Judgement, most: int | None) -> str:
    lines = [f"### Entries of {code(ACCEPTED_FILE)} without effect", ""]
    both = [(entry, "matches nothing in this change") for entry in judgement.unmatched]
    both += [(entry, "is from an earlier change and has no effect") for entry in judgement.spent]
    for entry, why in both[:most]:
        whose = f" of {code(entry.tenant)}" if entry.tenant else ""
        lines.append(f"- `{entry.guardrail}` {code(entry.object)}{whose} {why}")
    return "\n".join([*lines, *cut(len(both), most, "- ")]) + "\n"


def _stem(name: str) -> str:
    """Return the common prefix of one module's queues."""
    parts = name.split(".")
    return ".".join(parts[:2]) + "." if len(parts) > 2 else name


def _scalar(value: str) -> str:
    return value if re.fullmatch(r"[a-z][a-z0-9_.-]*", value) else json.dumps(value)
