"""Tables that fit their terminal: no number and no heading is ever cut."""

from __future__ import annotations

import io
from operator import itemgetter

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from rich.console import Console

from kryonix.cli.output.fleet import FleetView, fleet_report
from kryonix.cli.output.messages import stats_table, tallies_table
from kryonix.cli.output.plan import tenants_table
from kryonix.cli.output.tables import FOUND, Column, findings_line, modules_text, responsive_table, steps_table
from kryonix.engines.events import Step, Summary
from kryonix.fleet.cell_use import VhostUse
from kryonix.fleet.members import Member
from kryonix.messaging import QueueStats
from kryonix.messaging.redrive import Tally
from kryonix.registry.desired_states import DesiredState
from kryonix.topology.catalog import default_catalog
from kryonix.topology.cells import single_cell
from kryonix.topology.expansion import expand
from kryonix.topology.tenants import parse_tenant

CATALOG = default_catalog()
MODULES = ("crm", "whatsapp", "agendamento")
WIDTHS = [80, 100, 120, 140]


def printed(made: object, width: int) -> str:
    """Return the output of a console of this width."""
    console = Console(file=io.StringIO(), width=width)
    console.print(made)
    shown: str = console.file.getvalue()  # type: ignore[attr-defined]  # the StringIO above
    assert max(map(len, shown.splitlines())) <= width
    return shown


def console(width: int) -> Console:
    return Console(file=io.StringIO(), width=width)


def plan_at(width: int) -> str:
    entries = [("exemploempresa", MODULES, "basic"), ("redeclinicas", tuple(CATALOG.modules), "enterprise")]
    tenants = [parse_tenant({"id": id, "modules": list(m), "plan": plan}, "x", CATALOG) for id, m, plan in entries]
    return printed(tenants_table([expand(each, CATALOG) for each in tenants], CATALOG, console(width)), width)


@pytest.mark.parametrize("width", WIDTHS)
def test_a_plan_has_its_modules_and_whole_figures_at_every_width(width: int) -> None:
    shown = plan_at(width)
    for whole in ("37 of 50", "87 of 500", "all 8", "agendamento", "connections", "exemploempresa", "enterprise"):
        assert whole in shown
    assert width == 100 or ("bindings" in shown) == (width >= 120)


SIZES = st.lists(st.tuples(st.sampled_from([0, 8, 14, 20]), st.integers(2, 90)), min_size=3, max_size=7)


@pytest.mark.parametrize("width", WIDTHS)
@given(sizes=SIZES)
def test_a_table_that_can_be_folded_to_the_console_is_not_cut(width: int, sizes: list[tuple[int, int]]) -> None:
    columns = [Column(f"c{at}", itemgetter(at), min_width=least) for at, (least, _) in enumerate(sizes)]
    row = ["x" * (size if least else 2 + size % 12) for least, size in sizes]
    least_widths = [min(column.min_width or 90, len(text)) for column, text in zip(columns, row, strict=True)]
    assume(sum(least_widths) + 3 * len(sizes) + 1 <= width)
    shown = printed(responsive_table("title", columns, [row], console(width)), width)
    assert {line[-1] for line in shown.splitlines()[1:]} == set("┓┃┩│┘")


def test_modules_are_listed_in_few_words() -> None:
    assert modules_text(MODULES, CATALOG) == "crm, whatsapp, agendamento"
    assert modules_text((*MODULES, "portal"), CATALOG) == "crm, whatsapp, … (4)"
    assert modules_text(tuple(CATALOG.modules), CATALOG) == "all 8"


@pytest.mark.parametrize("width", WIDTHS)
def test_a_fleets_headings_are_whole_at_every_width(width: int) -> None:
    state = DesiredState(cliente_id="exemploempresa", modules=MODULES, plan="enterprise", status="suspended")
    use = VhostUse(queues=137, messages=1_234_567, connections=100)
    member = Member(
        state=state, vhost="/x", stack=True, use=use, planned_queues=37, max_queues=500, max_connections=1000
    )
    view = FleetView(members=[member], strays=(), cells=single_cell("dev"), loads={}, rollout=None)
    shown = console(width)
    shown.print(*fleet_report(view, shown))
    text = shown.file.getvalue()  # type: ignore[attr-defined]
    assert max(map(len, text.splitlines())) <= width
    for whole in ("connections", "137 of 500", "100 of 1000", "suspended", "exemploempresa"):
        assert whole in text


def queue(name: str, depth: int = 0) -> QueueStats:
    return QueueStats(
        f"cliente_exemploempresa.{name}",
        "crm",
        "leads.create",
        "action",
        depth,
        depth,
        0,
        1 if depth else 0,
        1.5,
        0.0,
        0.0,
    )


@pytest.mark.parametrize("width", WIDTHS)
def test_queues_are_named_by_what_differs_with_whole_figures(width: int) -> None:
    found = [queue("crm.leads.create", 1_234_567), queue("crm.contacts.sync.dlq", 12)]
    shown = printed(stats_table(found, "exemploempresa", False, console(width)), width)
    for whole in ("crm.leads.create", "crm.contacts.sync.dlq", "1,234,567", "consumers", "exemploempresa: 2 of 2"):
        assert whole in shown
    assert "cliente_" not in shown


def test_without_queues_in_use_a_sentence_is_printed() -> None:
    idle = [QueueStats("cliente_acme.crm.leads.create", "crm", "leads.create", "action", 0, 0, 0, 0, 0.0, 0.0, 0.0)]
    assert stats_table(idle, "acme", False, console(80)) == "No queue in use (1 queues of acme, shown with --all)."
    assert "crm.leads.create" in printed(stats_table(idle, "acme", True, console(80)), 80)


def test_an_empty_redrive_is_reported_and_columns_have_headings() -> None:
    none = Tally("crm", "leads.create", "cliente_acme.crm.leads.create.dlq", 0)
    assert "No dead letters in 1 dead-letter queue(s) of acme" in str(tallies_table([none], "acme", False, console(80)))
    full = Tally("crm", "leads.create", "cliente_acme.crm.leads.create.dlq", 7, 3, refused="its queue is full")
    shown = printed(tallies_table([full], "acme", False, console(100)), 100)
    assert "stopped because" in shown
    assert "its queue is full" in shown


def summary(op: str, count: int) -> Summary:
    steps = tuple(Step(f"urn{n}", f"policy-{n}", "kryonix:Policy", op) for n in range(count))  # type: ignore[arg-type]
    return Summary({op: count, "same": 5}, steps)


def test_a_refresh_reports_findings_not_deletions() -> None:
    found = summary("delete", 1)
    said = printed(steps_table(found.steps, console(80), FOUND), 80) + findings_line(found)
    assert "gone" in said
    assert "delete" not in said
    assert "1 resource changed outside Kryonix (1 gone), 5 unchanged" in said
    assert "State updated; run `kryonix up` to restore it." in said
    assert findings_line(summary("same", 5)).startswith("No changes outside Kryonix. 5 resources")


def test_a_shortened_preview_refers_to_json() -> None:
    assert "the first 60; --json prints all" in printed(steps_table(summary("create", 61).steps, console(80)), 80)
    assert "the first" not in printed(steps_table(summary("create", 60).steps, console(80)), 80)
