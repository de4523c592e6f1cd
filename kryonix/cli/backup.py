"""`kryonix backup`: encrypted bundles of the platform and its tenants, proven to restore."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

import typer

from kryonix.backup.creation import Created, Creation, Subject
from kryonix.backup.encryption import new_identity
from kryonix.backup.names import BundleName
from kryonix.backup.retention import Retention
from kryonix.cli import backup_schedule
from kryonix.cli.backup_restore import restore
from kryonix.cli.backup_verify import verify
from kryonix.cli.bundles import (
    BundleArgument,
    From,
    IdentityFiles,
    RecipientKeys,
    To,
    archive_of,
    creation_of,
    find_bundle,
    identities_of,
    recipients_of,
    subject_of,
)
from kryonix.cli.groups import group
from kryonix.cli.options import Json, PlatformOptions, Yes, command
from kryonix.cli.output import backup as output
from kryonix.cli.output.console import confirm, err, out, print_result
from kryonix.cli.output.progress import CountedProgress
from kryonix.cli.site import exit_for, open_site, platform_command
from kryonix.errors import InvalidChoice, KryonixError
from kryonix.registry.backups import fetch_verifications, forget_backup
from kryonix.registry.connection import connect

_FAILED: Final = 1

app = group("backup", "Encrypted bundles of the platform and its tenants, proven to restore.")
app.add_typer(backup_schedule.app)


@command(app)
def keygen(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="New file for the identity, with mode 600.")],
    json_output: Json = False,
) -> None:
    """Make a key: write the identity, which opens bundles, and print its recipient, which they are encrypted for.

    Keep the identity in two places, neither of them on the platform: without it no bundle can be opened.
    """
    recipient = new_identity(file)
    print_result({"recipient": recipient, "identity": str(file)}, recipient, json_output)
    if not json_output:
        text = f"{file} has the identity: keep a copy away from the platform, as no bundle opens without it. "
        text += "`kryonix backup create --recipient` takes the recipient above."
        err.print(text, soft_wrap=True, markup=False)


@platform_command(app)
def create(
    platform: PlatformOptions,
    tenant: Annotated[list[str] | None, typer.Option(metavar="ID", help="This tenant; repeatable.")] = None,
    every: Annotated[bool, typer.Option("--all", help="The platform and every tenant.")] = False,
    of_platform: Annotated[bool, typer.Option("--platform", help="The platform.")] = False,
    to: To = None,
    recipient: RecipientKeys = None,
    concurrency: Annotated[int, typer.Option(min=1, max=16, help="Bundles at a time.")] = 2,
    json_output: Json = False,
) -> None:
    """Write bundles: definitions, limits, users, registry rows and the stack's state, encrypted. No messages.

    One failure does not stop the others. Exit status 1 if a bundle was not written, 3 if the only reason is a service
    that does not answer.
    """
    if every == bool(tenant or of_platform):
        raise InvalidChoice("give --all for the platform and every tenant; or --platform, or --tenant ID, or both")
    recipients = recipients_of(platform, recipient)
    archive = archive_of(platform, to, "--to")
    creation = creation_of(open_site(platform, concurrency), archive, recipients)
    chosen = [Subject("platform", archive.stack)] if of_platform else []
    chosen += [creation.tenant(id) for id in dict.fromkeys(tenant or ())]
    made = _create(creation, creation.subjects() if every else chosen, concurrency)
    store = archive.store.address
    print_result(output.created_json(made, store), output.created_report(made, store, out), json_output)
    exit_for(platform, [each.error for each in made])


def _create(creation: Creation, subjects: Sequence[Subject], concurrency: int) -> list[Created]:
    """Make the bundles with progress. Raises the error of a single one."""
    progress = CountedProgress(err, "backup", len(subjects), noun="bundles")

    def on_done(made: Created) -> None:
        problem = str(made.error) if made.error is not None and len(subjects) > 1 else ""
        progress.advance(subject_of(made.name), problem)

    with progress.running():
        made = creation.create_all(subjects, datetime.now(UTC), on_done, concurrency=concurrency)
    if len(made) == 1 and made[0].error is not None:
        raise made[0].error
    return sorted(made, key=lambda each: each.name)


@command(app, "list")
def list_bundles(platform: PlatformOptions, source: From = None, json_output: Json = False) -> None:
    """Show the stack's bundles in a store, newest first, and whether each is proven to restore.

    Needs no broker. Without the registry it can't tell which are verified.
    """
    archive = archive_of(platform, source, "--from")
    found = sorted(archive.bundles(), key=lambda each: each[0].at, reverse=True)
    found.sort(key=lambda each: (each[0].kind, each[0].subject))
    outcomes = _outcomes(platform, archive.stack) if found else None
    store = archive.store
    listed = [
        output.Listed(
            name=name,
            address=store.address_of(str(name)),
            bytes=each.bytes,
            verified=None if outcomes is None else outcomes.get(name, ""),
        )
        for name, each in found
    ]
    report = output.list_report(listed, archive.stack, store.address, out)
    print_result([output.listed_json(each) for each in listed], report, json_output)
    if not listed:
        names = (BundleName.parse(each.name) for each in store.list())
        if stacks := sorted({name.stack for name in names if name}):
            err.print(f"Those there are of stack {', '.join(stacks)}: choose with --stack.", soft_wrap=True)


def _outcomes(platform: PlatformOptions, stack: str) -> Mapping[BundleName, str] | None:
    """Return the result of each bundle's last verification; None, with a message, without the registry."""
    try:
        return _verifications(open_site(platform).registry_dsn, stack)
    except KryonixError as error:
        err.print(f"the registry is needed to show which are verified: {error}", soft_wrap=True, markup=False)
        return None


def _verifications(dsn: str, stack: str) -> dict[BundleName, str]:
    with connect(dsn) as connection:
        found = fetch_verifications(connection, stack)
    return {BundleName(key.stack, key.kind, key.subject, key.at): outcome for key, outcome in found.items()}


@command(app)
def show(
    bundle: BundleArgument,
    platform: PlatformOptions,
    source: From = None,
    identity: IdentityFiles = None,
    json_output: Json = False,
) -> None:
    """Show what is in a bundle: of what, when and from what it was made, and its members. Needs no platform."""
    found = find_bundle(platform, bundle, source)
    manifest = found.opened(identities_of(identity)).manifest
    report = output.manifest_report(manifest, found.where, out)
    print_result(output.manifest_json(manifest, found.where), report, json_output)


@platform_command(app)
def prune(
    platform: PlatformOptions,
    source: From = None,
    keep_daily: Annotated[int, typer.Option(min=0, help="Days whose newest bundle is kept.")] = 7,
    keep_weekly: Annotated[int, typer.Option(min=0, help="Weeks whose newest bundle is kept.")] = 5,
    keep_monthly: Annotated[int, typer.Option(min=0, help="Months whose newest bundle is kept.")] = 12,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be deleted; delete nothing.")] = False,
    yes: Yes = False,
    json_output: Json = False,
) -> None:
    """Delete old bundles. The newest of each subject and its newest verified one always stay.

    A bundle stays as long as one of the three options keeps it. Days, weeks and months are UTC's.
    """
    archive, dsn = archive_of(platform, source, "--from"), open_site(platform).registry_dsn
    sizes = {name: each.bytes for name, each in archive.bundles()}
    verified = [name for name, outcome in _verifications(dsn, archive.stack).items() if outcome == "verified"]
    reasons = Retention(daily=keep_daily, weekly=keep_weekly, monthly=keep_monthly).decide(sizes, verified)
    old = sorted(name for name, why in reasons.items() if not why)
    if old and not dry_run:
        if not yes:
            err.print(output.prune_report(reasons, sizes, err))
            confirm("backup prune", f"Delete {len(old)} of {len(sizes)} bundles in {archive.store.address}?")
        for name in old:
            archive.store.delete(str(name))
            with connect(dsn) as connection:
                forget_backup(connection, name.key)
    print_result(
        output.prune_json(reasons, sizes, dry_run=dry_run),
        output.prune_report(reasons, sizes, out) if dry_run else f"{len(old)} of {len(sizes)} bundles deleted.",
        json_output,
    )


for _command in (verify, restore):
    platform_command(app)(_command)
