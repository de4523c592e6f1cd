"""Kinds of changes under review with their exit status. Their reports are in `golden/`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.support.project import tenant
from tests.support.review_repository import CATALOG, Repository

__all__ = ["FLEET", "KINDS", "TENANTS", "Kind"]

Edit = Callable[[Repository], None]
TOPOLOGY = "kryonix/topology"

TENANTS = (
    tenant("acme", "crm", "whatsapp", "financeiro", "marketing", "analytics", plan="enterprise"),
    tenant("beta", "crm", "portal", plan="pro"),
    tenant("delta", "crm", "portal", plan="pro"),
    tenant("gama", "crm", "agendamento", plan="basic"),
)
MODULES = ("crm", "whatsapp", "agendamento", "financeiro", "marketing", "analytics")
FLEET = tuple(tenant(f"loja-{number:04}", "crm", "whatsapp", plan="pro") for number in range(1_000))


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of change: what is done to four tenants and the present code before the base, and after it."""

    name: str
    status: int
    head: Edit
    base: Edit | None = None
    arguments: tuple[str, ...] = ()

    def make(self, repository: Repository) -> None:
        """Commit the base, tag it, and commit the change."""
        repository.tenants(*TENANTS)
        repository.commit("four tenants")
        if self.base is not None:
            self.base(repository)
            repository.commit("the base")
        repository.git("tag", "base")
        self.head(repository)
        repository.commit("the change")


def _tenants(*removed: str, added: tuple[dict[str, Any], ...] = (), **changed: dict[str, Any]) -> Edit:
    """The base's tenants without some, with others, and with fields changed."""
    kept = [entry | changed.get(entry["id"], {}) for entry in TENANTS if entry["id"] not in removed]
    return lambda repository: repository.tenants(*kept, *added)


def _text(file: str, old: str, new: str) -> Edit:
    return lambda repository: repository.replace(file, old, new)


def _file(file: str, content: str) -> Edit:
    return lambda repository: repository.write(file, content)


def _all(*edits: Edit) -> Edit:
    def edit(repository: Repository) -> None:
        for each in edits:
            each(repository)

    return edit


def _accepting(edit: Edit, *entries: dict[str, str]) -> Edit:
    return _all(edit, lambda repository: repository.accept(*entries))


def _fleet(*tenants: dict[str, Any]) -> Edit:
    return lambda repository: repository.tenants(*tenants)


def _yes(guardrail: str, tenant: str, object: str, reason: str) -> dict[str, str]:
    return {"guardrail": guardrail, "tenant": tenant, "object": object, "reason": reason}


_LANE = (
    "    business_critical: true\n  whatsapp:",
    "    business_critical: true\n    priority_lanes: {leads.create: [high]}\n  whatsapp:",
)
_NEW_MODULE = """  estoque:
    actions: [itens.reservar, itens.liberar]
    retention: 3d
    priority_levels: 2
    mobile_priority: false
    ai_routing: false

plans:
"""
_RETRY = "retry: {strategy: native, first_delay: 1s, max_delay: 1m, limit: 3}"
_DEAD_LETTER_QUEUE = 'yield Queue(names.dead_letter_queue(name, action), {"x-queue-type": "quorum"}, name)'
_DEPTH = '        "max-length": scaling.max_queue_depth,\n'
_FUTURE = "from __future__ import annotations\n"
_HOSTILE = (
    "@octocat </details></summary>| # x <img src=x onerror=alert(1)> [a](javascript:b) ``` https://evil.example #1"
)
_MISFIT = _tenants(acme={"plan": "basic"})
_FEWER = tuple(
    tenant(entry["id"], "crm", plan="pro") if number % 100 == 0 else entry for number, entry in enumerate(FLEET)
)
_MIXED = tuple(
    tenant(entry["id"], *MODULES[: 1 + number % 6], plan=("pro", "enterprise")[number % 2])
    for number, entry in enumerate(FLEET[:990])
)

_OF_TENANTS = (
    Kind("no-change", 0, lambda repository: None),
    Kind("comment-only", 0, _text("tenants.yaml", "tenants:", "# Customers of 2026.\ntenants:")),
    Kind("tenant-added", 0, _tenants(added=(tenant("nova", "crm", "analytics", plan="pro"),))),
    Kind("tenant-removed", 11, _tenants("delta")),
    Kind("tenant-suspended", 0, _tenants(beta={"status": "suspended"})),
    Kind("tenant-renamed", 11, _tenants("acme", added=({**TENANTS[0], "id": "acme-brasil"},))),
    Kind("tenant-moved", 0, _tenants(acme={"cell": "sul"})),
    Kind("module-added", 0, _tenants(beta={"modules": ["crm", "portal", "analytics"]})),
    Kind("module-removed", 10, _tenants(beta={"modules": ["crm"]})),
    Kind("modules-in-another-order", 0, _tenants(beta={"modules": ["portal", "crm"]})),
    Kind("plan-up", 0, _tenants(gama={"plan": "pro"})),
    Kind("plan-down", 0, _tenants(acme={"plan": "pro"})),
    Kind("plan-down-that-does-not-fit", 12, _MISFIT),
)
_OF_THE_CATALOG = (
    Kind("catalog-retention", 0, _text(CATALOG, "retention: 24h\n    priority", "retention: 12h\n    priority")),
    Kind("catalog-retry", 0, _text(CATALOG, _RETRY, _RETRY.replace("1m, limit: 3", "5m, limit: 5"))),
    Kind("catalog-retry-strategy", 12, _text(CATALOG, "strategy: native", "strategy: queues")),
    Kind("catalog-limit-raised", 15, _text(CATALOG, "max_queues: 200", "max_queues: 250")),
    Kind("catalog-limit-lowered", 0, _text(CATALOG, "max_connections: 50", "max_connections: 40")),
    Kind("catalog-depth-raised", 15, _text(CATALOG, "max_queue_depth: 1000,", "max_queue_depth: 2000,")),
    Kind("catalog-priority-lane", 0, _text(CATALOG, *_LANE)),
    Kind("catalog-priority-lane-removed", 10, _text(CATALOG, *_LANE[::-1]), base=_text(CATALOG, *_LANE)),
    Kind("catalog-action-removed", 10, _text(CATALOG, "tasks.assign, reports.generate", "tasks.assign")),
    Kind(
        "catalog-new-module",
        0,
        _all(_text(CATALOG, "plans:\n", _NEW_MODULE), _tenants(gama={"modules": ["crm", "agendamento", "estoque"]})),
    ),
)
_OF_THE_CODE = (
    Kind(
        "code-naming",
        10,
        _text(f"{TOPOLOGY}/naming.py", "{self.queue(module, action)}.dlq", "{self.queue(module, action)}.dead"),
    ),
    Kind("code-permissions", 13, _text(f"{TOPOLOGY}/expansion.py", 'configure="^$"', "configure=names.own_objects")),
    Kind(
        "code-expansion",
        10,
        _text(f"{TOPOLOGY}/expansion.py", _DEAD_LETTER_QUEUE, _DEAD_LETTER_QUEUE.replace('"quorum"', '"classic"')),
    ),
    Kind("code-policies", 15, _text(f"{TOPOLOGY}/expansion.py", _DEPTH, "")),
    Kind("code-without-effect", 0, _text(f"{TOPOLOGY}/naming.py", '"""Every name', '"""Each name')),
    Kind(
        "code-of-the-base-fails",
        0,
        _all(_text(f"{TOPOLOGY}/expansion.py", "import gone_since\n", ""), _tenants(gama={"plan": "pro"})),
        base=_text(f"{TOPOLOGY}/expansion.py", _FUTURE, f"{_FUTURE}import gone_since\n"),
    ),
    Kind("components-touched", 0, _file("components/tenant.py", "# another way to make a tenant\n")),
)
_OF_INPUT = (
    Kind("secret-in-plain-text", 14, _file("Pulumi.prod.yaml", "config:\n  kryonix:brokerPassword: hunter2-hunter2\n")),
    Kind("bad-yaml-in-head", 2, _text("tenants.yaml", "tenants:", "tenants: [")),
    Kind("unknown-module-in-head", 2, _text("tenants.yaml", "- portal", "- portall")),
    Kind(
        "bad-yaml-in-base",
        10,
        _tenants(beta={"modules": ["crm"]}),
        base=_text("tenants.yaml", "tenants:", "tenants: ["),
    ),
    Kind("tenants-new-in-the-change", 0, _tenants(), base=lambda made: (made.folder / "tenants.yaml").unlink()),
)
_OF_ALL = (
    Kind(
        "several-at-once",
        16,
        _all(
            _tenants(
                "delta",
                added=(tenant("nova", "crm", plan="basic"),),
                beta={"modules": ["crm"]},
                gama={"status": "suspended"},
            ),
            _text(CATALOG, "max_length: 10000,", "max_length: 20000,"),
        ),
    ),
    Kind(
        "removal-accepted",
        0,
        _accepting(
            _tenants("delta", beta={"modules": ["crm"]}),
            _yes("tenant-removed", "delta", "delta", "contract ended on 31 May"),
            _yes("queue-lost", "beta", "cliente_beta.portal.*", "portal sold off"),
            _yes("queue-lost", "beta", "cliente_beta.crm.*", "a slip of the pen"),
        ),
    ),
    Kind("misfit-accepted", 0, _accepting(_MISFIT, _yes("plan-does-not-fit", "acme", "basic", "modules go next week"))),
    Kind(
        "hostile-reason",
        0,
        _accepting(
            _tenants("delta"),
            _yes("tenant-removed", "delta", "delta", _HOSTILE),
            _yes("queue-lost", "delta", _HOSTILE, _HOSTILE),
        ),
    ),
    Kind("thousand-tenants-ten-changed", 10, _fleet(*_FEWER), base=_fleet(*FLEET)),
    Kind(
        "thousand-tenants-all-changed",
        0,
        _text(CATALOG, "retention: 24h\n    priority", "retention: 12h\n    priority"),
        base=_fleet(*FLEET),
    ),
    Kind("thousand-tenants-cut-short", 16, _fleet(*_MIXED), base=_fleet(*FLEET), arguments=("--limit", "6000")),
)
KINDS = (*_OF_TENANTS, *_OF_THE_CATALOG, *_OF_THE_CODE, *_OF_INPUT, *_OF_ALL)
