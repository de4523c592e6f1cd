"""`kryonix backup verify`: prove that bundles restore."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from kryonix.backup.encryption import Identities
from kryonix.backup.errors import WrongKey
from kryonix.backup.platform_reading import whole_registry_dsn
from kryonix.backup.verification import verify as restored_beside
from kryonix.cli.bundles import From, IdentityFiles, OptionalBundle, Reference, chosen_bundles, identities_of
from kryonix.cli.options import Json, PlatformOptions
from kryonix.cli.output.console import err, out, print_result
from kryonix.cli.output.progress import CountedProgress
from kryonix.cli.output.proofs import Proof, proofs_json, proofs_report
from kryonix.cli.site import Site, open_site
from kryonix.errors import KryonixError, ServiceUnreachable
from kryonix.rabbitmq.broker import Broker
from kryonix.registry.backups import record_verified
from kryonix.registry.connection import connect

_FAILED: Final = 1


def verify(
    platform: PlatformOptions,
    bundle: OptionalBundle = None,
    every: Annotated[bool, typer.Option("--all", help="The newest of the platform and of each tenant.")] = False,
    source: From = None,
    identity: IdentityFiles = None,
    json_output: Json = False,
) -> None:
    """Prove that a bundle restores: restore it beside the platform, read it back, compare, and remove it again.

    It goes into a vhost and tables of its own: tenants are not touched. The registry records the result. Exit status 1
    if anything would come back otherwise than it was.
    """
    identities = identities_of(identity)
    references = chosen_bundles(platform, bundle, source, every=every)
    site = open_site(platform)
    verifier = _Verifier(site, platform.stack, identities)
    proofs: list[Proof] = []
    progress = CountedProgress(err, "verify", len(references), noun="bundles")
    with progress.running():
        for reference in references:
            proof = verifier.proof(reference)
            if proof.error is not None and (not every or proof.error.exit_status == ServiceUnreachable.exit_status):
                raise proof.error
            proofs.append(proof)
            progress.advance(reference.subject, proof.problem if every else "")
    print_result(proofs_json(proofs), proofs_report(proofs, out), json_output)
    if any(proof.problem for proof in proofs):
        raise typer.Exit(_FAILED)


class _Verifier:
    """Verifies bundles on a platform, and records the results."""

    def __init__(self, site: Site, stack: str, identities: Identities) -> None:
        self._broker, self._dsn, self._identities = Broker.of(site.outputs), site.registry_dsn, identities
        self._owner_dsn = whole_registry_dsn(site.engine, stack, site.registry_dsn)

    def proof(self, reference: Reference) -> Proof:
        """Verify one bundle. A key that does not fit, or an outage, tells nothing of it, and is not recorded."""
        try:
            found = restored_beside(reference.opened(self._identities), self._broker, self._owner_dsn)
        except KryonixError as error:
            if not isinstance(error, WrongKey) and error.exit_status != ServiceUnreachable.exit_status:
                self._record(reference, str(error))
            return Proof(reference=reference, error=error)
        self._record(reference, found.error)
        return Proof(reference=reference, found=found)

    def _record(self, reference: Reference, problem: str) -> None:
        name, archive = reference.name, reference.archive
        if name is None or archive is None:
            return
        if stored := dict(archive.bundles(name.kind, name.subject)).get(name):
            with connect(self._dsn) as connection:
                record_verified(connection, name.key, address=reference.where, bytes=stored.bytes, error=problem)
