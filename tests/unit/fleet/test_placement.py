from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from kryonix.cli.output.fleet import FleetView, fleet_report
from kryonix.fleet.cell_use import VhostUse, read_cell
from kryonix.fleet.members import cell_loads, fleet_members, other_tenants, strays
from kryonix.fleet.placement import Load, NoRoom, choose_cell, load_of
from kryonix.registry.desired_states import DesiredState
from kryonix.registry.rows import Status, TenantRow
from kryonix.topology.catalog import MIB, default_catalog
from kryonix.topology.cells import Cell, Cells
from kryonix.topology.tenants import Tenant
from tests.support.management_api import by_path, served

CATALOG = default_catalog()
CRM = Load(tenants=1, queues=15, connections=10, bytes=8 * 8 * MIB + 7 * 16 * MIB)
BOUNDS = st.one_of(st.none(), st.integers(1, 500))
LOADS = st.builds(
    Load, tenants=st.integers(0, 300), queues=st.integers(0, 400), connections=st.integers(0, 400), problem=st.none()
)


def cell(**fields: object) -> Cell:
    return Cell.model_validate({"platform": "organization/kryonix/dev", **fields})


CELL = st.builds(
    lambda queues, tenants, connections, is_open: cell(
        max_queues=queues, max_tenants=tenants, max_connections=connections, open=is_open
    ),
    BOUNDS,
    BOUNDS,
    BOUNDS,
    st.booleans(),
)
NAMES = st.sampled_from(["east", "main", "north", "west"])


def room(bounds: Cell, load: Load) -> bool:
    sums = load + CRM
    pairs = (
        (sums.tenants, bounds.max_tenants),
        (sums.queues, bounds.max_queues),
        (sums.connections, bounds.max_connections),
    )
    return bounds.open and all(most is None or taken <= most for taken, most in pairs)


@given(st.dictionaries(NAMES, st.tuples(CELL, LOADS), min_size=1))
def test_place_picks_a_cell_with_room_if_there_is_one(
    fleet: dict[str, tuple[Cell, Load]],
) -> None:
    cells = Cells(cells={name: bounds for name, (bounds, _) in fleet.items()})
    loads = {name: load for name, (_, load) in fleet.items()}
    fitting = {name for name, (bounds, load) in fleet.items() if room(bounds, load)}
    if not fitting:
        with pytest.raises(NoRoom):
            choose_cell(CRM, cells, loads)
        return
    placement = choose_cell(CRM, cells, loads)
    assert placement.cell in fitting
    fullness = {verdict.cell: verdict.fullness for verdict in placement.verdicts}
    assert fullness[placement.cell] == min(fullness[name] for name in fitting)
    assert len(placement.verdicts) == len(cells.cells)


@given(st.dictionaries(NAMES, st.tuples(CELL, LOADS), min_size=1))
def test_the_order_of_the_cells_does_not_matter(fleet: dict[str, tuple[Cell, Load]]) -> None:
    loads = {name: load for name, (_, load) in fleet.items()}
    turned = dict(reversed(list(fleet.items())))
    answers: list[object] = []
    for each in (fleet, turned):
        try:
            answers.append(choose_cell(CRM, Cells(cells={n: bounds for n, (bounds, _) in each.items()}), loads))
        except NoRoom as error:
            answers.append(str(error))
    assert answers[0] == answers[1]


def test_the_reason_names_every_bound_with_the_tenant_in_it() -> None:
    cells = Cells(cells={"main": cell(max_queues=100, max_tenants=4), "east": cell(max_queues=100)})
    placement = choose_cell(CRM, cells, {"main": Load(tenants=3, queues=20), "east": Load(tenants=9, queues=40)})
    assert placement.cell == "east"
    assert [str(verdict) for verdict in placement.verdicts] == [
        "east: 55 of 100 queues (55% full)",
        "main: 4 of 4 tenants, 35 of 100 queues (100% full)",
    ]


def test_without_room_the_missing_capacity_is_named() -> None:
    cells = Cells(cells={"main": cell(max_queues=100), "old": cell(open=False), "away": cell(max_queues=500)})
    loads = {"main": Load(queues=90), "away": Load(problem="the broker does not answer")}
    with pytest.raises(NoRoom) as refused:
        choose_cell(CRM, cells, loads)
    said = str(refused.value)
    assert "main: 105 of 100 queues. No room: 5 queues too many" in said
    assert "old: 15 queues, no limits. Closed to new tenants" in said
    assert "away: 15 of 500 queues. the broker does not answer" in said
    assert "Add a platform stack and its cell in cells.yaml with room for at least 15 queues" in said
    assert "raise max_queues to 105 in the cell 'main'" in said
    assert refused.value.exit_status == 2


def test_a_cell_is_full_when_its_queue_limits_reach_its_bytes() -> None:
    cells = Cells(cells={"main": cell(max_bytes="300MiB"), "east": cell(max_bytes="1GiB")})
    full = {"main": Load(tenants=1, bytes=CRM.bytes)}
    placement = choose_cell(CRM, cells, full)
    assert placement.cell == "east"
    assert str(placement.verdicts[1]) == "main: 352MiB of 300MiB bytes. No room: 52MiB bytes too many"
    with pytest.raises(NoRoom, match="raise max_bytes to 352MiB in the cell 'main'"):
        choose_cell(CRM, Cells(cells={"main": cells.cells["main"]}), full)


def test_a_tenant_uses_its_queues_and_its_plans_connections_and_bytes() -> None:
    assert load_of(Tenant(id="acme", modules=("crm",), plan="basic"), CATALOG) == CRM
    suspended = Tenant(id="acme", modules=("crm",), plan="basic", status="suspended")
    assert load_of(suspended, CATALOG) == CRM, "it may be resumed at any time"


def row(tenant: str, **fields: object) -> DesiredState:
    return DesiredState(cliente_id=tenant, modules=("crm",), plan="basic", **fields)  # type: ignore[arg-type]


def test_pending_rows_and_tenants_without_a_row_count() -> None:
    found = {
        "/cliente_listed": VhostUse(queues=87, connections=3, max_connections=50, max_bytes=9),
        "/cliente_acme": VhostUse(queues=15),
        "/": VhostUse(),
    }
    states = [row("acme"), row("coming"), row("gone", status="removed")]
    loads = cell_loads(states, {"main": found, "away": None}, {"away": "does not answer"}, CATALOG)
    assert loads["main"] == Load(
        tenants=3, without_row=1, queues=15 + 15 + 87, connections=10 + 10 + 50, bytes=2 * CRM.bytes + 9
    )
    assert loads["away"].problem == "does not answer"


@pytest.mark.parametrize(
    ("use", "connections"),
    [
        (VhostUse(connections=3), 3),
        (VhostUse(connections=0, max_connections=10), 10),
        (VhostUse(connections=12, max_connections=10), 12),
    ],
)
def test_a_tenant_without_a_row_counts_with_its_limits_or_its_use(use: VhostUse, connections: int) -> None:
    assert cell_loads([], {"main": {"/cliente_listed": use}}, {}, CATALOG)["main"].connections == connections


def test_the_connection_limit_counts_the_platforms_own_tenants() -> None:
    found = {"/cliente_listed": VhostUse(max_connections=45)}
    loads = cell_loads([], {"main": found}, {}, CATALOG)
    with pytest.raises(NoRoom, match="55 of 50 connections"):
        choose_cell(CRM, Cells(cells={"main": cell(max_connections=50)}), loads)


def test_a_broker_is_read_with_the_limits_of_its_vhosts() -> None:
    answers = {
        "/api/queues": [{"vhost": "/a", "name": "a.dlq", "messages": 2}],
        "/api/policies": [{"vhost": "/a", "pattern": "dlq$", "definition": {"max-length-bytes": 9}}],
        "/api/operator-policies": [
            {"vhost": "/a", "pattern": "^a", "definition": {"max-length-bytes": 7}},
            {"vhost": "/a", "pattern": "^b", "definition": {"max-length-bytes": 5}},
            {"vhost": "/a", "pattern": "^a", "definition": {"max-length": 3}},
        ],
        "/api/connections": [{"vhost": "/a"}, {}],
        "/api/vhost-limits": [
            {"vhost": "/a", "value": {"max-connections": 10, "max-queues": 5}},
            {"vhost": "/b", "value": {"max-connections": -1}},
            {"vhost": "/c", "value": {"max-connections": 0}},
        ],
    }
    with served(by_path({"/api/whoami": {}, **answers})) as api:
        found = read_cell("main", api.outputs)
    assert found == {
        "/a": VhostUse(queues=1, messages=2, connections=1, max_connections=10, max_bytes=7),
        "/b": VhostUse(),
        "/c": VhostUse(max_connections=0),
    }


def test_a_cell_counts_tenants_outside_the_fleet() -> None:
    console = Console(width=200, record=True, file=io.StringIO())
    cells = Cells(cells={"main": cell()})
    load = Load(tenants=4, without_row=3, queues=90, connections=160, bytes=3 * MIB)
    for by_hand, carried in (([], load), (["tenant-x"], load), ([], Load(tenants=1))):
        view = FleetView(members=(), strays=by_hand, cells=cells, loads={"main": carried}, rollout=None)
        console.print(*fleet_report(view, console))
    said = console.export_text()
    assert "cell main: 4 tenant(s), 3 of them the platform's own, 90 queues, 160 connections and 3MiB allowed" in said
    assert "4 tenant(s), 3 of them the platform's own or run by hand, 90 queues" in said
    assert "cell main: 1 tenant(s), 0 queues" in said


def test_queues_beyond_a_plan_count_in_full() -> None:
    found = {"/cliente_acme": VhostUse(queues=40)}
    assert cell_loads([row("acme")], {"main": found}, {}, CATALOG)["main"].queues == 40


def test_pending_work_is_listed_per_tenant() -> None:
    states = [row("fresh"), row("gone", status="removed"), row("left", status="removed"), row("odd")]
    members = fleet_members(states, ["tenant-left", "tenant-odd", "tenant-by-hand"], {"main": {}}, CATALOG, {})
    pending = {member.state.cliente_id: member.pending for member in members}
    assert pending == {
        "fresh": ("stack not created yet",),
        "left": ("removal not finished: the stack still exists",),
        "odd": ("last change not applied",),
    }
    assert strays(states, ["tenant-left", "tenant-by-hand", "dev"]) == ["tenant-by-hand"]


def test_a_module_missing_from_the_catalog_does_not_hide_its_tenant() -> None:
    state = DesiredState(cliente_id="acme", modules=("crm", "fax"), plan="basic")
    (member,) = fleet_members([state], [], {"main": None}, CATALOG, {})
    assert cell_loads([state], {"main": None}, {}, CATALOG)["main"].tenants == 1
    assert member.problem == "the catalog has no module 'fax'"
    assert member.use is None


def test_tenants_without_a_desired_state_are_listed_with_their_file() -> None:
    def registered(id: str, status: Status = "ativo") -> TenantRow:
        return TenantRow(cliente_id=id, vhost=f"/cliente_{id}", modulos=("crm",), plano="basic", status=status)

    rows = [registered(id) for id in ("acme", "again", "by-hand", "far")]
    rows += [registered("listed", "suspenso"), registered("gone", "removido")]
    states, stacks = [row("acme"), row("again", status="removed")], ["tenant-acme", "tenant-by-hand"]
    others = other_tenants(rows, states, {"listed": "main", "again": "main"}, stacks)
    assert {id: (state.status, manager) for id, (state, manager) in others.items()} == {
        "again": ("active", "tenants.yaml"),
        "by-hand": ("active", "Pulumi.tenant-by-hand.yaml"),
        "far": ("active", "another project"),
        "listed": ("suspended", "tenants.yaml"),
    }
    uses = {"main": {"/cliente_by-hand": VhostUse(queues=3)}}
    members = fleet_members(
        [state for state, _ in others.values()], stacks, uses, CATALOG, {id: by for id, (_, by) in others.items()}
    )
    assert [(m.state.cliente_id, m.state.cell, m.pending) for m in members] == [
        ("again", "main", ()),
        ("by-hand", "main", ()),
        ("far", "unknown", ()),
        ("listed", "main", ()),
    ]
