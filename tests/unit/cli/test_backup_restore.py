"""`kryonix backup restore`: what is shown before and after, and what is asked."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest
import typer
from rich.console import Console

from kryonix.backup.bundle import Bundle
from kryonix.backup.errors import InvalidBundle
from kryonix.backup.names import BundleName
from kryonix.backup.platform_restoring import PlatformPlan, PlatformRestored
from kryonix.backup.platform_snapshot import PlatformSnapshot
from kryonix.backup.restore_plan import RestorePlan
from kryonix.backup.snapshot import TenantSnapshot
from kryonix.cli import backup_restore
from kryonix.cli.backup_restore import RestoreOptions, restore
from kryonix.cli.bundles import Reference
from kryonix.cli.options import PlatformOptions
from kryonix.cli.output.restore import (
    Outcome,
    all_json,
    changes,
    outcomes_table,
    plan_json,
    plan_report,
    platform_report,
    platform_text,
    restored_text,
)
from kryonix.cli.site import exit_for
from kryonix.errors import InvalidChoice, KryonixError
from kryonix.rabbitmq.client import BrokerUnavailable
from kryonix.tenants.errors import WouldLoseMessages
from kryonix.topology.tenants import Tenant
from tests.support.bundles import bundle, manifest
from tests.support.expanded import expanded

PLATFORM = PlatformOptions(stack="dev")
WAS = expanded(Tenant(id="acme", modules=("crm",), plan="basic"))
QUEUE = "cliente_acme.crm.leads.create"
AT = datetime(2026, 5, 1, 2, tzinfo=UTC)
DAY = timedelta(days=1)


def without_queue(snapshot: TenantSnapshot, *more: dict[str, Any]) -> TenantSnapshot:
    queues = [each for each in snapshot.definitions["queues"] if each["name"] != QUEUE]
    return replace(snapshot, definitions={**snapshot.definitions, "queues": [*queues, *more]})


def plan(now: TenantSnapshot, **found: Any) -> RestorePlan:
    return RestorePlan(snapshot=WAS, now=now, nodes=1, **{"replaced": {}, "trimmed": {}, **found})


def text_of(lines: Iterable[str]) -> str:
    printed = io.StringIO()
    console = Console(file=printed, width=80)
    for line in lines:
        console.print(line, soft_wrap=True)
    return printed.getvalue()


def report(planned: RestorePlan) -> str:
    return text_of(plan_report(planned, manifest(created_at=datetime.now(UTC) - timedelta(hours=3, minutes=1))))


def test_what_differs_is_named_and_what_is_only_here_stays() -> None:
    planned = plan(without_queue(WAS, {"name": "by\x1b[2Jhand", "durable": True, "arguments": {}}))
    shown = report(planned)
    assert "Tenant acme from its bundle" in shown
    assert "UTC, 3 hours ago:" in shown
    assert f"queue {QUEUE}\n" in shown
    assert "stays   1 queue\n" in shown
    assert "by\\x1b[2Jhand" in shown
    assert changes(planned)
    assert restored_text(planned, 1.5) == "acme restored in 1.5 s: 1 queue added; 1 queue left as found."


def test_changes_are_told_as_the_restore_makes_them() -> None:
    (policy, *others) = WAS.definitions["policies"]
    changed = [{**policy, "priority": 7}, *others]
    now = replace(WAS, definitions={**WAS.definitions, "policies": changed})
    was = f"priority: 7 -> {policy['priority']}"
    assert f"change  1 policy\n          policy {policy['name']}: {was}\n" in report(plan(now))


def test_messages_that_would_be_deleted_are_counted_by_queue() -> None:
    planned = plan(WAS, replaced={QUEUE: 1200, "empty": 0})
    assert f"1,200 message(s) in {QUEUE} would be deleted." in report(planned)
    assert plan_json(planned, manifest())["messages_to_delete"] == {QUEUE: 1200}


def test_a_lost_tenant_is_counted_and_not_listed() -> None:
    shown = report(plan(replace(WAS, vhost=None, definitions={**WAS.definitions, "queues": []})))
    assert QUEUE not in shown
    assert " queues" in shown
    assert "1 vhost" in shown


def test_nothing_to_restore_is_said() -> None:
    assert "Everything is as in the bundle: nothing to restore." in report(plan(WAS))
    assert not changes(plan(WAS))


def outcome(tenant: str, **values: Any) -> Outcome:
    return Outcome(**{"tenant": tenant, "at": AT, "plan": None, "error": None, "seconds": 1.0, **values})


def test_each_tenants_result_is_told() -> None:
    outcomes = [
        outcome("lost", plan=plan(without_queue(WAS))),
        outcome("same", plan=plan(WAS)),
        outcome("bad", error=BrokerUnavailable("away")),
        outcome("later"),
    ]
    found = all_json(None, outcomes, dry_run=False)["tenants"]
    assert [each["result"] for each in found] == ["restored", "unchanged", "failed", "after the platform"]
    assert [each["differences"] for each in found] == [1, 0, None, None]
    assert all_json(None, outcomes[:1], dry_run=True)["tenants"][0]["result"] == "would change"
    table = outcomes_table(outcomes, Console(width=80), dry_run=False)
    assert table.title == "4 tenant(s), 1 restored, 1 unchanged, 1 failed, 1 after the platform"


def test_a_platforms_plan_says_what_is_lost() -> None:
    planned = PlatformPlan(
        snapshot=cast("PlatformSnapshot", None),
        state="restored",
        services="lost",
        rows={"tenants.desired_states": 3},
        objects={"vhosts": ["/monitoring", "/"], "global_parameters": ["cluster_tags"]},
        others=["new"],
        unfinished=2,
        left_out=["user admin"],
    )
    shown = text_of(platform_report(planned, manifest(), manifest()))
    assert "lost: restored from the bundle" in shown
    assert "3 added, in 1 table\n" in shown
    assert "2 vhosts, 1 global parameter, unless the stack makes them" in shown
    assert "2 unfinished operations of the signup service will count as failed." in shown
    assert "Tenants that the bundle does not have stay: new." in shown
    assert "user admin" not in shown, "the stack makes it"
    unknown = text_of(platform_report(replace(planned, services="unknown"), manifest(), manifest()))
    assert "seen once the state is back: what runs goes on" in unknown
    assert "3 added, in 1 table, unless they are there" in unknown


def test_a_restored_platform_names_what_is_left_to_do() -> None:
    done = PlatformRestored(rows={"a": 1000, "b": 1}, objects={}, seconds=11, left_out=[])
    said = "Platform restored in 11.0 s: 1,001 row(s) and 0 object(s) of the broker added."
    assert platform_text(done) == said
    left = platform_text(replace(done, left_out=["user root", "user \x1b[31m"]))
    assert left.startswith(f"{said}\nDeclare again yourself, as it acts with a login of its own: user root, ")
    assert "\x1b" not in left


class Restorer:
    """A restore of a tenant that notes whether it ran."""

    def __init__(self, planned: RestorePlan) -> None:
        self.planned, self.ran = planned, False

    def plan(self, snapshot: object, **_: object) -> RestorePlan:
        return self.planned

    def run(self, planned: RestorePlan, **_: object) -> Any:
        self.ran = True
        return SimpleNamespace(seconds=1.0)


@pytest.fixture
def of_tenant(monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = SimpleNamespace(manifest=manifest(stack="dev"))
    found = SimpleNamespace(opened=lambda identities: bundle)
    monkeypatch.setattr(backup_restore, "identities_of", lambda files: None)
    monkeypatch.setattr(backup_restore, "chosen_bundles", lambda *_, every: [found])
    monkeypatch.setattr(backup_restore, "open_site", lambda platform, **options: None)
    monkeypatch.setattr(backup_restore, "TenantSnapshot", SimpleNamespace(of=lambda bundle: WAS))


def restorer(patch: pytest.MonkeyPatch, planned: RestorePlan) -> Restorer:
    made = Restorer(planned)
    patch.setattr(backup_restore, "_restorer", lambda platform, site, snapshot: made)
    return made


@pytest.mark.usefixtures("of_tenant")
def test_a_dry_run_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    made = restorer(monkeypatch, plan(without_queue(WAS)))
    restore(RestoreOptions(dry_run=True), PLATFORM, "acme")
    assert not made.ran


@pytest.mark.usefixtures("of_tenant")
@pytest.mark.parametrize("options", [RestoreOptions(dry_run=True), RestoreOptions(yes=True)])
def test_a_loss_of_messages_is_refused(monkeypatch: pytest.MonkeyPatch, options: RestoreOptions) -> None:
    made = restorer(monkeypatch, plan(without_queue(WAS), replaced={QUEUE: 5}))
    with pytest.raises(WouldLoseMessages):
        restore(options, PLATFORM, "acme")
    assert not made.ran
    if options.yes:
        restore(replace(options, allow_delete=[QUEUE]), PLATFORM, "acme")
        assert made.ran


@pytest.mark.usefixtures("of_tenant")
def test_a_tenant_as_in_its_bundle_is_left_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = restorer(monkeypatch, plan(WAS))
    restore(RestoreOptions(yes=True), PLATFORM, "acme")
    assert not made.ran
    assert "nothing to restore" in capsys.readouterr().out


@pytest.mark.usefixtures("of_tenant")
def test_the_question_comes_after_the_plan(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    made = restorer(monkeypatch, plan(without_queue(WAS)))
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: True))
    monkeypatch.setattr(typer, "confirm", lambda question: False)
    with pytest.raises(typer.Exit) as ended:
        restore(RestoreOptions(), PLATFORM, "acme")
    assert ended.value.exit_code == 2
    assert not made.ran
    shown = capsys.readouterr().err
    assert shown.index(f"queue {QUEUE}") < shown.index("Nothing was changed.")


@pytest.mark.usefixtures("of_tenant")
def test_a_tenant_of_another_platform_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    made = restorer(monkeypatch, plan(without_queue(WAS)))
    with pytest.raises(InvalidChoice, match=r"of the platform 'dev', not of 'eu'\. Choose its platform with --stack"):
        restore(RestoreOptions(yes=True), PlatformOptions(stack="organization/kryonix/eu"), "acme")
    assert not made.ran


def test_one_tenants_damaged_bundle_does_not_stop_the_others(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def damaged(identities: object) -> Any:
        raise InvalidBundle("bad.age", "is truncated")

    name = BundleName("dev", "tenant", "bad", AT)
    good = SimpleNamespace(manifest=manifest(stack="dev"))
    references = [
        SimpleNamespace(name=name, opened=damaged),
        SimpleNamespace(name=replace(name, subject="acme"), opened=lambda identities: good),
    ]
    monkeypatch.setattr(backup_restore, "identities_of", lambda files: None)
    monkeypatch.setattr(backup_restore, "chosen_bundles", lambda *_, every: references)
    monkeypatch.setattr(backup_restore, "_restore_tenants", lambda platform, options, bundles: [outcome("acme")])
    with pytest.raises(typer.Exit) as ended:
        restore(RestoreOptions(every=True, yes=True), PLATFORM, json_output=True)
    assert ended.value.exit_code == 1
    assert [each["tenant"] for each in json.loads(capsys.readouterr().out)["tenants"]] == ["acme", "bad"]
    references[0].name = BundleName("dev", "platform", "dev", AT)
    with pytest.raises(InvalidBundle):
        restore(RestoreOptions(every=True, yes=True), PLATFORM)


def test_options_that_exclude_each_other_are_refused_first() -> None:
    for id in ("new", ""):
        with pytest.raises(InvalidChoice, match="--as is for the bundle of one tenant"):
            restore(RestoreOptions(every=True, as_id=id, yes=True), PLATFORM)
    with pytest.raises(InvalidChoice, match="Add --yes"):
        restore(RestoreOptions(), PLATFORM, "acme")


@pytest.mark.parametrize(
    ("errors", "status"),
    [
        ([None, BrokerUnavailable("away")], 3),
        ([BrokerUnavailable("away"), InvalidChoice("wrong")], 1),
        ([InvalidChoice("wrong")], 1),
    ],
)
def test_several_failures_have_one_exit_status(
    monkeypatch: pytest.MonkeyPatch, errors: list[KryonixError | None], status: int
) -> None:
    outages: list[PlatformOptions] = []
    monkeypatch.setattr("kryonix.cli.site.print_outage", outages.append)
    with pytest.raises(typer.Exit) as ended:
        exit_for(PLATFORM, errors)
    assert ended.value.exit_code == status
    assert bool(outages) == any(isinstance(error, BrokerUnavailable) for error in errors)
    exit_for(PLATFORM, [None, None])


def platform_bundle(at: datetime, **members: Any) -> Bundle:
    content = {"definitions.json": b"{}", "rows.json": b"{}"}
    content |= {f"{name}.json": json.dumps(value).encode() for name, value in members.items()}
    return bundle(content, kind="platform", subject="dev", stack="dev", created_at=at)


def test_a_lost_state_comes_from_the_newest_bundle_that_has_one(monkeypatch: pytest.MonkeyPatch) -> None:
    class Restorer:
        def __init__(self, *_: object) -> None: ...

        def plan(self, snapshot: PlatformSnapshot) -> PlatformSnapshot:
            return snapshot

    states: dict[str, Any] = {"dev": None}
    monkeypatch.setattr(backup_restore, "engine_of", lambda _: None)
    monkeypatch.setattr(backup_restore, "state_of", lambda _, stack: states[stack])
    monkeypatch.setattr(backup_restore, "PlatformRestore", Restorer)
    own = {"version": 3, "deployment": {"resources": []}}
    newest, middle, first = platform_bundle(AT), platform_bundle(AT - DAY), platform_bundle(AT - 3 * DAY, state={})
    with_state = platform_bundle(AT - 2 * DAY, state=own)

    found = cast("Any", backup_restore._planned(PLATFORM, newest, iter([middle, with_state, first])))
    assert found.plan.state == own
    assert (found.manifest, found.with_state) == (newest.manifest, with_state.manifest)

    states["dev"] = own
    kept = cast("Any", backup_restore._planned(PLATFORM, newest, iter([with_state])))
    assert (kept.plan.state, kept.with_state) == (None, newest.manifest), "a state that is there stays"


def test_damaged_bundles_are_left_out_of_the_older_ones() -> None:
    names = [BundleName.of("dev", "platform", "dev", AT - days * DAY) for days in (3, 2, 1, 0)]

    def read(name: BundleName, _: object) -> str:
        if name == names[1]:
            raise InvalidBundle(str(name), "is damaged")
        return str(name)

    archive = cast("Any", SimpleNamespace(bundles=lambda *_: [(name, None) for name in names], read=read))
    newest = Reference(where="", name=names[3], archive=archive)
    tenant = Reference(where="", name=BundleName.of("dev", "tenant", "acme", AT), archive=archive)
    older: list[Any] = list(backup_restore._older([tenant, newest, Reference(where="a-file")], cast("Any", None)))
    assert older == [str(names[2]), str(names[0])]
