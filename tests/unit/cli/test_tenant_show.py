"""`kryonix tenant show`, and the messages it counts."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from uuid import UUID

import pytest
from rich.console import Console

from kryonix.cli.output.fleet import state_json
from kryonix.cli.output.tenant import Depth, depths_of, tenant_json, tenant_report
from kryonix.fleet.cell_use import VhostUse
from kryonix.fleet.members import Member
from kryonix.registry.desired_states import DesiredState
from kryonix.signup.operations import Operation
from kryonix.topology.catalog import default_catalog
from kryonix.topology.objects import QueueState

NOW = datetime(2026, 5, 1, tzinfo=UTC)
STATE = DesiredState(cliente_id="acme", modules=("crm",), plan="basic", applied_at=NOW, updated_at=NOW)
USE = VhostUse(queues=15, connections=3, messages=7)
OPERATION = Operation(
    id=UUID(int=1),
    tenant="acme",
    kind="rotate",
    request={},
    status="failed",
    attempts=1,
    objects_done=0,
    objects_total=0,
    doing="",
    problem={"title": "The broker is away"},
    result=None,
    key_id=None,
    idempotency_key=None,
    fingerprint=None,
    sealing_key=b"key",
    sealed=b"sealed",
    delivered_at=None,
    revision=1,
    created_at=NOW,
    started_at=NOW,
    ended_at=None,
)


def queue(name: str, messages: int) -> QueueState:
    return QueueState("/cliente_acme", f"cliente_acme.{name}", {}, messages)


def test_messages_are_counted_by_action() -> None:
    held = {
        "crm.leads.create": 5,
        "crm.leads.create.retry.1": 2,
        "crm.leads.create.dlq": 3,
        "crm.contacts.sync": 0,
        "unrouted": 4,
        "by.hand": 1,
    }
    queues = [queue(name, messages) for name, messages in held.items()]
    assert depths_of(queues, "acme", default_catalog()) == {
        "cliente_acme.by.hand": Depth(1, 0),
        "crm.leads.create": Depth(7, 3),
        "unrouted": Depth(4, 0),
    }


@pytest.mark.parametrize("answers", [True, False])
def test_a_tenant_is_shown_on_one_screen(answers: bool) -> None:
    use = USE if answers else None
    member = Member(
        state=STATE,
        vhost="/cliente_acme",
        stack=True,
        use=use,
        planned_queues=15,
        max_queues=50,
        max_connections=10,
        managed_by="tenants.yaml",
    )
    depths = {"crm.leads.create": Depth(7, 3)} if answers else None
    users = ["kryonix_acme"] if answers else None
    shown = tenant_json(state_json(STATE), member, users, depths, [OPERATION])
    console = Console(width=100, file=io.StringIO())
    console.print(*tenant_report(shown, console))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    count = "15" if answers else "?"
    for part in ("tenants.yaml", "/cliente_acme", f"{count} of 50 queues", "rotate", "The broker is away"):
        assert part in text
    assert ("backlog 7, dead letters 3" in text) is answers
    assert (shown["managed_by"], shown["use"]["connections"]["allowed"]) == ("tenants.yaml", 10)
    assert "sealed" not in str(shown)
