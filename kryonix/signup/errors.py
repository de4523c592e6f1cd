"""Errors of requests: `kind` is the problem type of the answer. Errors about the tenant come from `kryonix.tenants`."""

from __future__ import annotations

from typing import ClassVar

from kryonix.errors import KryonixError


class SignupError(KryonixError):
    """Base of every error of this package."""

    exit_status = 2
    kind: ClassVar[str]
    status: ClassVar[int]


class InvalidKey(SignupError):
    kind, status = "invalid-key", 401

    def __init__(self) -> None:
        super().__init__("a valid API key is required: `Authorization: Bearer KEY`. Ask the service's operator for one")


class ScopeTooSmall(SignupError):
    kind, status = "scope-too-small", 403

    def __init__(self, scope: str, needed: str) -> None:
        super().__init__(f"this API key has the scope {scope!r}, and the request needs {needed!r}. Use a key with it")


class WrongCredentialsKey(SignupError):
    kind, status = "wrong-credentials-key", 403

    def __init__(self) -> None:
        super().__init__(
            "the credentials are sealed for another key. Send the `credentials_key` from the answer that accepted the "
            "operation. The credentials can still be fetched"
        )


class UnknownOperation(SignupError):
    kind, status = "unknown-operation", 404

    def __init__(self, operation: object) -> None:
        super().__init__(f"there is no operation {str(operation)!r}. Use the id from the answer that accepted it")


class OperationUnderWay(SignupError):
    kind, status = "operation-under-way", 409

    def __init__(self, tenant: str, operation: str, kind: str) -> None:
        super().__init__(
            f"operation {operation} ({kind}) on the tenant {tenant!r} is in progress, and a tenant has one operation "
            "at a time. Wait for it to end, then send the request again"
        )
        self.tenant, self.operation = tenant, operation


class DeclaredInFile(SignupError):
    kind, status = "declared-in-file", 409

    def __init__(self, tenant: str) -> None:
        super().__init__(
            f"the tenant {tenant!r} is declared in a config file, tenants.yaml or a stack's own, and this service "
            "changes only tenants with a stack of their own. Change the file (`kryonix tenant list` names it), then "
            f"run `kryonix up`; or move a tenant of tenants.yaml to its own stack: `kryonix tenant adopt {tenant}`"
        )


class NotReady(SignupError):
    kind, status = "not-ready", 409

    def __init__(self, operation: object, kind: str, status: str, *, gives: bool) -> None:
        problem = f"operation {operation} ({kind}) is {status} and has no credentials"
        if not gives:
            remedy = "Only creations and rotations have some. Use the id of one of those"
        elif status == "failed":
            remedy = "Read its `problem`, then send the request again with a new Idempotency-Key"
        else:
            remedy = "Wait until it has succeeded"
        super().__init__(f"{problem}. {remedy}")


class AlreadyDelivered(SignupError):
    kind, status = "already-delivered", 410

    def __init__(self, operation: object, tenant: str, *, expired: bool = False) -> None:
        problem = "were not fetched in time and are deleted" if expired else "have been delivered, which happens once"
        super().__init__(
            f"the credentials of operation {operation} {problem}. Create new ones: POST /v1/tenants/{tenant}/rotate"
        )


class KeyReused(SignupError):
    kind, status = "idempotency-key-reused", 422

    def __init__(self, key: str) -> None:
        shown = key if len(key) <= 60 else f"{key[:57]}..."
        super().__init__(f"the Idempotency-Key {shown!r} was used for another request. Use a new key for each request")


class NothingAsked(SignupError):
    kind, status = "nothing-asked", 422

    def __init__(self) -> None:
        super().__init__("the change is empty. Give `modules`, `plan` or `notify`")


class TooManyStreams(SignupError):
    kind, status = "too-many-streams", 429

    def __init__(self, most: int) -> None:
        super().__init__(
            f"this API key has {most} open event streams, the maximum. Close one, or poll the operation instead"
        )


class TooManyRequests(SignupError):
    kind, status = "too-many-requests", 429

    def __init__(self, seconds: float) -> None:
        super().__init__(f"too many requests. Try again in {seconds:.1f} s")
        self.seconds = seconds


class MonitoringOff(SignupError):
    kind, status = "monitoring-off", 503

    def __init__(self) -> None:
        super().__init__(
            "monitoring is off: this service has no Prometheus to read from. Set `kryonix:monitoring: true` and run "
            "`kryonix up`, then start the service again; or start it with --prometheus URL"
        )


class MonitoringUnavailable(SignupError):
    kind, status = "monitoring-unavailable", 503

    def __init__(self) -> None:
        super().__init__(
            "Prometheus can't be read: it doesn't answer, or refuses the query. Tenants and their messages are not "
            "affected. Check that it runs; the service's log has the reason"
        )
