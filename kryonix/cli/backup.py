"""`kryonix backup`: encrypted bundles of the platform and its tenants, proven to restore."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from kryonix.backup.encryption import new_identity
from kryonix.backup.names import BundleName
from kryonix.cli.bundles import (
    BundleArgument,
    From,
    IdentityFiles,
    archive_of,
    find_bundle,
    identities_of,
)
from kryonix.cli.groups import group
from kryonix.cli.options import Json, PlatformOptions, command
from kryonix.cli.output import backup as output
from kryonix.cli.output.console import err, out, print_result
from kryonix.cli.site import open_site
from kryonix.errors import KryonixError
from kryonix.registry.backups import fetch_verifications
from kryonix.registry.connection import connect

app = group("backup", "Encrypted bundles of the platform and its tenants, proven to restore.")


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
        with connect(open_site(platform).registry_dsn) as connection:
            found = fetch_verifications(connection, stack)
    except KryonixError as error:
        err.print(f"the registry is needed to show which are verified: {error}", soft_wrap=True, markup=False)
        return None
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
