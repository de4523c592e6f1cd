"""What can go wrong with a request, beside what `kryonix.tenants` says of the tenant.

SignupError                  base; `kind` names the problem in answers, `status` is the answer's
├── InvalidKey         401   no key, or one that is not known, has expired or was revoked
├── ScopeTooSmall      403   the key may not do this
├── WrongCredentialsKey 403  the key that credentials were sealed for is another
├── UnknownOperation   404
├── OperationUnderWay  409   the tenant has an operation that has not ended; carries it
├── NotReady           409   credentials are asked for before the operation has made them
├── AlreadyDelivered   410   credentials were fetched before, or not in time
├── KeyReused          422   an idempotency key came with another request
├── NothingAsked       422   a change that names nothing to change
└── TooManyRequests    429   carries the seconds to wait
"""

from __future__ import annotations

from typing import ClassVar

from kryonix.errors import KryonixError

__all__ = [
    "AlreadyDelivered",
    "InvalidKey",
    "KeyReused",
    "NotReady",
    "NothingAsked",
    "OperationUnderWay",
    "ScopeTooSmall",
    "SignupError",
    "TooManyRequests",
    "TooManyStreams",
    "UnknownOperation",
    "WrongCredentialsKey",
]


class SignupError(KryonixError):
    """Base of every error of this package."""

    exit_status = 2
    kind: ClassVar[str]
    status: ClassVar[int]


class InvalidKey(SignupError):
    kind, status = "invalid-key", 401

    def __init__(self) -> None:
        super().__init__(
            "this needs a valid API key, sent as `Authorization: Bearer KEY`. `kryonix signup keys create` makes one"
        )


class ScopeTooSmall(SignupError):
    kind, status = "scope-too-small", 403

    def __init__(self, scope: str, needed: str) -> None:
        super().__init__(f"this needs an API key of scope {needed!r}, and yours has {scope!r}. Ask for one that may")


class WrongCredentialsKey(SignupError):
    kind, status = "wrong-credentials-key", 403

    def __init__(self) -> None:
        super().__init__(
            "these credentials were sealed for another key: send the `credentials_key` that the operation was answered "
            "with. Nothing has been handed out"
        )


class UnknownOperation(SignupError):
    kind, status = "unknown-operation", 404

    def __init__(self, operation: object) -> None:
        super().__init__(f"there is no operation {str(operation)!r}. Use the id that the operation was answered with")


class OperationUnderWay(SignupError):
    kind, status = "operation-under-way", 409

    def __init__(self, tenant: str, operation: str, kind: str) -> None:
        super().__init__(
            f"the operation {operation} ({kind}) on the tenant {tenant!r} has not ended, and there is one at a time. "
            "Wait for it to end and ask again"
        )
        self.tenant, self.operation = tenant, operation


class NotReady(SignupError):
    kind, status = "not-ready", 409

    def __init__(self, operation: object, status: str) -> None:
        super().__init__(f"the operation {operation} is {status} and has no credentials (yet). Wait until it succeeded")


class AlreadyDelivered(SignupError):
    kind, status = "already-delivered", 410

    def __init__(self, operation: object) -> None:
        super().__init__(
            f"the credentials of the operation {operation} are handed out once, and were, or were not fetched in time. "
            "Rotate the tenant's credentials to have new ones"
        )


class KeyReused(SignupError):
    kind, status = "idempotency-key-reused", 422

    def __init__(self, key: str) -> None:
        shown = key if len(key) <= 60 else f"{key[:57]}..."
        super().__init__(
            f"the Idempotency-Key {shown!r} came before with another request. Use a new one for each thing you ask for"
        )


class NothingAsked(SignupError):
    kind, status = "nothing-asked", 422

    def __init__(self) -> None:
        super().__init__("the change names nothing to change. Give `modules`, `plan`, or both")


class TooManyStreams(SignupError):
    kind, status = "too-many-streams", 429

    def __init__(self, most: int) -> None:
        super().__init__(
            f"{most} event streams of this API key are open, which is as many as there may be. Close one, or ask for "
            "the operation itself from time to time"
        )


class TooManyRequests(SignupError):
    kind, status = "too-many-requests", 429

    def __init__(self, seconds: float) -> None:
        super().__init__(f"too many requests. Ask again in {seconds:.1f} s")
        self.seconds = seconds
