"""Bundles for tests, and the pieces to make hostile ones of."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import pyrage
import zstandard

from kryonix.backup.bundle import Bundle
from kryonix.backup.encryption import Identities, Recipients
from kryonix.backup.manifest import Facts, Manifest, member_of

AT = datetime(2026, 11, 29, 2, 0, 0, tzinfo=UTC)
FACTS = Facts(broker="4.3.6", broker_nodes=1, registry="0009", etag="2-9CC-49F0276", counts={"queues": 2})
MEMBERS = {"definitions.json": b'{"queues": []}\n', "users.json": b'[{"password_hash": "c2VjcmV0LWhhc2g="}]\n'}


def keys() -> tuple[Recipients, Identities]:
    """Return a new key: the recipients that it is, and the identities."""
    identity = pyrage.x25519.Identity.generate()
    return Recipients.parse(str(identity.to_public())), Identities.parse(str(identity))


def manifest(members: Mapping[str, bytes] = MEMBERS, **changed: Any) -> Manifest:
    fields: dict[str, Any] = {
        "kind": "tenant",
        "subject": "acme",
        "stack": "prod",
        "at": AT,
        "created_at": AT,
        "members": {name: member_of(content) for name, content in members.items()},
        **FACTS.model_dump(),
    }
    return Manifest(**{**fields, **changed})


def bundle(members: Mapping[str, bytes] = MEMBERS, **changed: Any) -> Bundle:
    return Bundle(manifest(members, **changed), members)


def file(name: str, content: bytes) -> tuple[tarfile.TarInfo, bytes]:
    """Return an entry of a tar."""
    info = tarfile.TarInfo(name)
    info.size = len(content)
    return info, content


def tar(entries: Iterable[tuple[tarfile.TarInfo, bytes]], form: int = tarfile.USTAR_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as archive:
        for info, content in entries:
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def sealed(plain: bytes, recipients: Recipients) -> bytes:
    """Return what anyone can make who knows a recipient: any bytes, compressed and encrypted."""
    return recipients.encrypt(zstandard.compress(plain))
