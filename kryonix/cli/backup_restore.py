"""`kryonix backup restore`: bring back a tenant, the platform, or all of them, from bundles."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Annotated, Any, Final, Self

import typer

from kryonix.backup.bundle import Bundle
from kryonix.backup.encryption import Identities
from kryonix.backup.errors import BackupError, InvalidBundle
from kryonix.backup.manifest import Manifest
from kryonix.backup.platform_restoring import PlatformPlan, PlatformRestore, PlatformRestored
from kryonix.backup.platform_snapshot import PlatformSnapshot
from kryonix.backup.reading import state_of
from kryonix.backup.restore_plan import RestorePlan
from kryonix.backup.restoring import TenantRestore
from kryonix.backup.snapshot import TenantSnapshot
from kryonix.cli.bundles import From, IdentityFiles, OptionalBundle, Reference, chosen_bundles, identities_of
from kryonix.cli.options import Json, PlatformOptions, Yes
from kryonix.cli.output import restore as output
from kryonix.cli.output.console import confirm, err, out, print_report, print_result, refuse_without_terminal
from kryonix.cli.output.progress import CountedProgress, Live, RunProgress
from kryonix.cli.output.restore import Outcome
from kryonix.cli.site import Site, engine_of, exit_for, open_site
from kryonix.engines.engine import StackSpec
from kryonix.errors import InvalidChoice, KryonixError
from kryonix.rabbitmq.broker import Broker

_log = logging.getLogger(__name__)

_COMMAND: Final = "backup restore"
_AT_ONCE: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreOptions:
    """The options of a restore."""

    every: Annotated[bool, typer.Option("--all", help="The newest of the platform, then of each tenant.")] = False
    as_id: Annotated[
        str | None, typer.Option("--as", metavar="NEW_ID", help="Restore the tenant as a new one, beside the other.")
    ] = None
    allow_delete: Annotated[
        list[str] | None,
        typer.Option(help="Queue that may be deleted with its messages, or a pattern with `*`; repeatable."),
    ] = None
    fewer_nodes: Annotated[
        bool, typer.Option("--fewer-nodes", help="Accept a cluster with fewer nodes than the bundle's.")
    ] = False
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would change; change nothing.")] = False
    yes: Yes = False

    @property
    def asks(self) -> bool:
        return not (self.yes or self.dry_run)


def restore(
    options: RestoreOptions,
    platform: PlatformOptions,
    bundle: OptionalBundle = None,
    source: From = None,
    identity: IdentityFiles = None,
    json_output: Json = False,
) -> None:
    """Restore a tenant or the platform: what is missing comes back, what differs becomes as it was, the rest stays.

    Shows first what differs, and asks. Messages in queues stay; a restore that would delete some is refused unless
    --allow-delete names the queue. A tenant takes no connections meanwhile. If interrupted, run the same command again.
    """
    if options.as_id is not None and options.every:
        raise InvalidChoice("--as is for the bundle of one tenant. Leave out --all")
    if options.asks:
        refuse_without_terminal(_COMMAND)
    identities = identities_of(identity)
    references = chosen_bundles(platform, bundle, source, every=options.every)
    if options.every:
        bundles, unread = _opened(references, identities)
        _restore_all(platform, options, bundles, unread, _older(references, identities), json_output)
        return
    opened = references[0].opened(identities)
    if opened.manifest.kind == "tenant":
        _restore_tenant(platform, options, opened, json_output)
    elif options.as_id is not None:
        raise InvalidChoice("--as is for the bundle of one tenant, and this is the platform's")
    else:
        _restore_platform(platform, options, opened, _older(references, identities), json_output)


def _older(references: Iterable[Reference], identities: Identities) -> Iterator[Bundle]:
    """Yield the platform's bundles older than the one among these, newest first. Damaged ones are left out."""
    for each in references:
        if each.archive is None or each.name is None or each.name.kind != "platform":
            continue
        names = [name for name, _ in each.archive.bundles("platform", each.name.subject) if name < each.name]
        for name in reversed(names):
            with suppress(InvalidBundle):
                yield each.archive.read(name, identities)


def _opened(references: Iterable[Reference], identities: Identities) -> tuple[list[Bundle], list[Outcome]]:
    """Open bundles. A tenant's that is damaged does not stop the others, and the platform's does: it is needed."""
    bundles, unread = [], []
    for reference in references:
        try:
            bundles.append(reference.opened(identities))
        except InvalidBundle as error:
            name = reference.name
            if name is None or name.kind == "platform":
                raise
            unread.append(Outcome(tenant=name.subject, at=name.at, plan=None, error=error, seconds=0))
    return bundles, unread


def _restore_tenant(platform: PlatformOptions, options: RestoreOptions, bundle: Bundle, json_output: bool) -> None:
    """Show what would change, ask, restore, and print what was changed."""
    snapshot, manifest, own = TenantSnapshot.of(bundle), bundle.manifest, platform.stack.rpartition("/")[2]
    if manifest.stack != own:
        problem = f"the bundle is of a tenant of the platform {manifest.stack!r}, not of {own!r}"
        raise InvalidChoice(f"{problem}. Choose its platform with --stack {manifest.stack}")
    restorer = _restorer(platform, open_site(platform, keep=True), snapshot)
    plan = restorer.plan(snapshot, nodes=manifest.broker_nodes, as_id=options.as_id)
    found: dict[str, Any] = {"dry_run": options.dry_run, **output.plan_json(plan, manifest)}
    if options.dry_run or not output.changes(plan):
        print_result(found, output.plan_report(plan, manifest), json_output)
    plan.refuse_losses(options.allow_delete or ())
    if options.dry_run or not output.changes(plan):
        return
    if options.asks:
        print_report(output.plan_report(plan, manifest), err)
        confirm(_COMMAND, f"Restore tenant {plan.tenant!r}?")
    seconds = _run(restorer, plan, options)
    print_result({**found, "seconds": seconds}, output.restored_text(plan, seconds), json_output)


def _run(restorer: TenantRestore, plan: RestorePlan, options: RestoreOptions) -> float:
    """Restore a tenant with progress, and return its seconds."""
    with Live(err, f"restore {plan.tenant}").running() as progress:

        def on_step(step: str) -> None:
            progress.update(f"restore {plan.tenant}: {step}", f"restore {plan.tenant}: {step}")

        allowed, fewer = options.allow_delete or (), options.fewer_nodes
        restored = restorer.run(plan, allow_delete=allowed, fewer_nodes=fewer, on_step=on_step)
    return round(restored.seconds, 3)


def _restorer(platform: PlatformOptions, site: Site, snapshot: TenantSnapshot) -> TenantRestore:
    """Return what restores a tenant, on the broker of its cell."""
    cell = site.cells.cells.get(str(snapshot.entry.get("cell", "")))
    here = cell is None or cell.stack == platform.stack.rpartition("/")[2]
    outputs = site.outputs if here or cell is None else site.engine.outputs(StackSpec(name=cell.stack))
    return TenantRestore(
        Broker.of(outputs), site.registry_dsn, site.engine, site.cells, site.catalog, service_worker=site.service_worker
    )


def _restore_platform(
    platform: PlatformOptions, options: RestoreOptions, bundle: Bundle, older: Iterable[Bundle], json_output: bool
) -> None:
    """Show what would be added, ask, restore, and print what was added."""
    planned = _planned(platform, bundle, older)
    if options.asks:
        print_report(planned.report(), err)
        confirm(_COMMAND, f"Restore the platform of stack {platform.stack!r}?")
    done = planned if options.dry_run else planned.run()
    print_result({"dry_run": options.dry_run, **done.as_json()}, done.report(), json_output)


def _restore_all(
    platform: PlatformOptions,
    options: RestoreOptions,
    bundles: Sequence[Bundle],
    unread: Sequence[Outcome],
    older: Iterable[Bundle],
    json_output: bool,
) -> None:
    """Restore the platform, then every tenant. One tenant's failure does not stop the others.

    `unread` are the tenants whose bundles can't be read, `older` the platform's other bundles.
    """
    tenants = [each for each in bundles if each.manifest.kind == "tenant"]
    whole = next((_planned(platform, each, older) for each in bundles if each.manifest.kind == "platform"), None)
    if options.asks:
        print_report(whole.report() if whole else (), err)
        what = f"the platform and {len(tenants)} tenant(s)" if whole else f"{len(tenants)} tenant(s)"
        confirm(_COMMAND, f"Restore {what} of stack {platform.stack!r}?")
    if whole and not options.dry_run:
        whole = whole.run()
    blocked = whole is not None and options.dry_run and whole.plan.services != "running"
    restored = [_unknown(each) for each in tenants] if blocked else _restore_tenants(platform, options, tenants)
    outcomes = [*restored, *unread]
    table = output.outcomes_table(outcomes, out, dry_run=options.dry_run)
    found = output.all_json(whole.as_json() if whole else None, outcomes, dry_run=options.dry_run)
    print_result(found, [*(whole.report() if whole else ()), table], json_output)
    exit_for(platform, [each.error for each in outcomes])


@dataclass(frozen=True, slots=True)
class _WholePlatform:
    """The restore of the platform: as planned, and once it has run, as done."""

    restorer: PlatformRestore
    plan: PlatformPlan
    manifest: Manifest
    with_state: Manifest
    """The manifest of the bundle that has the stack's state."""
    restored: PlatformRestored | None = None

    def run(self) -> Self:
        # The first refresh of a lost platform fails: that is how it finds what is lost.
        with RunProgress(err, "restore the platform", failures=False).running() as progress:
            return replace(self, restored=self.restorer.run(self.plan, progress.on_event))

    def as_json(self) -> dict[str, Any]:
        return output.platform_json(self.plan, self.manifest, self.with_state, self.restored)

    def report(self) -> Iterable[str]:
        done = self.restored
        if done is not None:
            return [output.platform_text(done)]
        return output.platform_report(self.plan, self.manifest, self.with_state)


def _planned(platform: PlatformOptions, bundle: Bundle, older: Iterable[Bundle]) -> _WholePlatform:
    """Plan the restore of a platform. A lost state comes from the newest bundle that has it: a schedule's has none."""
    engine, snapshot, source = engine_of(platform), PlatformSnapshot.of(bundle), bundle
    restorer = PlatformRestore(engine, platform.stack)
    if snapshot.state is None and state_of(engine, platform.stack) is None:
        source = next((each for each in older if "state.json" in each.members), bundle)
        snapshot = replace(snapshot, state=PlatformSnapshot.of(source).state)
    return _WholePlatform(restorer, restorer.plan(snapshot), bundle.manifest, source.manifest)


def _restore_tenants(platform: PlatformOptions, options: RestoreOptions, bundles: Sequence[Bundle]) -> list[Outcome]:
    site, progress = open_site(platform, _AT_ONCE, keep=True), CountedProgress(err, "restore", len(bundles))

    def one(bundle: Bundle) -> Outcome:
        outcome = _outcome(platform, site, options, bundle)
        progress.advance(outcome.tenant, str(outcome.error or ""))
        return outcome

    with progress.running(), ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="restore") as pool:
        futures = [pool.submit(one, bundle) for bundle in bundles]
        try:
            return [future.result() for future in futures]
        finally:
            pool.shutdown(cancel_futures=True)


def _unknown(bundle: Bundle) -> Outcome:
    """Return the outcome of a dry run without broker and registry."""
    return Outcome(tenant=bundle.manifest.subject, at=bundle.manifest.created_at, plan=None, error=None, seconds=0)


def _outcome(platform: PlatformOptions, site: Site, options: RestoreOptions, bundle: Bundle) -> Outcome:
    """Restore one of several tenants, unless it is as in its bundle."""
    tenant, began = bundle.manifest.subject, time.monotonic()
    plan, error = None, None
    try:
        snapshot = TenantSnapshot.of(bundle)
        restorer, allowed = _restorer(platform, site, snapshot), options.allow_delete or ()
        plan = restorer.plan(snapshot, nodes=bundle.manifest.broker_nodes)
        if output.changes(plan):
            plan.refuse_losses(allowed)
            if not options.dry_run:
                restorer.run(plan, allow_delete=allowed, fewer_nodes=options.fewer_nodes)
    except KryonixError as failure:
        error = failure
    except Exception as failure:  # noqa: BLE001  a fault in one must not stop the others
        _log.exception("the restore of %s failed", tenant)
        error = BackupError(f"{type(failure).__name__}: {failure}")
    seconds = time.monotonic() - began
    return Outcome(tenant=tenant, at=bundle.manifest.created_at, plan=plan, error=error, seconds=seconds)
