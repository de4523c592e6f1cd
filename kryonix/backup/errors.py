"""Errors of backups.

BackupError                 1  base
├── BundleExists            1  the store has a bundle of that name; it was left as it is
├── Incomplete              1  a restore brought less than the bundle holds
├── InvalidBundle           2  damaged, hostile, or made by a newer version
│   └── WrongKey            2  none of the identities opens it
├── InvalidAddress          2  a store's or a bundle's address is not valid
├── InvalidKey              2  a recipient or an identity is not valid
├── UnknownBundle           2  the store has no such bundle
├── Changing                3  the platform changed while it was read
├── NotUndone               3  a restore failed, and what it had made could not be taken back
├── ShortOfNodes            3  members of the cluster are missing: a restore would skip queues
└── StoreUnreachable        3  the store does not answer, refuses, or is full
"""

from __future__ import annotations

from kryonix.errors import InvalidChoice, KryonixError, ServiceUnreachable


class BackupError(KryonixError):
    """Base of every error of this package."""


class BundleExists(BackupError):
    """The store has a bundle of that name already. It was left as it is."""

    def __init__(self, address: str) -> None:
        super().__init__(f"{address} exists already and was left as it is: a bundle is never written over")


class Incomplete(BackupError):
    """A restore brought less than the bundle holds."""


class InvalidBundle(BackupError, InvalidChoice):
    """A bundle that is damaged, hostile, or made by a newer version. Nothing of it was used."""

    def __init__(self, where: str, reason: str) -> None:
        super().__init__(f"{where}: {reason}")


class WrongKey(InvalidBundle):
    """None of the identities opens a bundle."""

    def __init__(self, where: str) -> None:
        reason = "none of the identities opens it. Give the one whose recipient the backup was made for"
        super().__init__(where, f"{reason}. If you did, the bundle's header is damaged: use another bundle")


class InvalidAddress(BackupError, InvalidChoice):
    """The address of a store or of a bundle is not valid."""


class InvalidKey(BackupError, InvalidChoice):
    """A recipient or an identity is not valid. The message never holds an identity."""


class UnknownBundle(BackupError, InvalidChoice):
    """The store has no such bundle."""

    def __init__(self, address: str) -> None:
        super().__init__(f"there is no bundle {address}. `kryonix backup list` shows those that are there")


class Changing(BackupError, ServiceUnreachable):
    """The platform changed while it was read, each time it was tried."""


class NotUndone(BackupError, ServiceUnreachable):
    """A restore failed, and the tenant could not be brought back to what it was. Its vhost takes no connections."""


class ShortOfNodes(BackupError, ServiceUnreachable):
    """Members of the cluster are missing. The broker would skip queues, and say that it took them."""


class StoreUnreachable(BackupError, ServiceUnreachable):
    """A store does not answer, refuses the credentials, or has no room."""
