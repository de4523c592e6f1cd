"""A broker as its administrator sees it: what tenants' operations and the safeguards read and change."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Self

from urllib3 import Timeout

from kryonix.rabbitmq.client import BrokerFailed, BrokerUnavailable, Client
from kryonix.topology.credentials import is_hash_of
from kryonix.topology.objects import QueueState, VhostState

LIVE_TOTALS: Final = {"disable_stats": "true", "enable_queue_totals": "true"}
_POLICY: Final = "effective_policy_definition"
_FILLING: Final = f"vhost,name,messages,message_bytes,{_POLICY}"
_OUTPUTS: Final = ("management_url", "admin_username", "admin_password")
_NO_VHOST: Final = "vhost_not_found"
_DOWN: Final = ("down", "minority", "stopped", "crashed")
"""States of a queue that says nothing of its messages: the broker counts none."""
_CUT_OFF_S: Final = 10
_AT_ONCE: Final = 8


@dataclass(frozen=True, slots=True)
class BindingState:
    """A queue's binding, with everything needed to create it again."""

    vhost: str
    source: str
    queue: str
    routing_key: str
    arguments: Mapping[str, Any]
    properties_key: str

    @property
    def path(self) -> tuple[str, ...]:
        return "bindings", self.vhost, "e", self.source, "q", self.queue


@dataclass(frozen=True, slots=True)
class Filling:
    """A queue's messages and bytes, up to 5 s old, and its effective policy."""

    vhost: str
    name: str
    messages: int
    message_bytes: int
    policy: Mapping[str, Any]


class Broker(Client):
    """A client of one broker. Every call may raise BrokerUnavailable."""

    def __init__(
        self,
        url: str,
        username: str,
        password: str,
        *,
        connect_s: float = 5,
        read_s: float = 30,
        further_urls: Sequence[str] = (),
        ca_certificate: str = "",
    ) -> None:
        super().__init__(
            url,
            username,
            password,
            Timeout(connect=connect_s, read=read_s),
            further_urls=further_urls,
            ca_certificate=ca_certificate,
            maxsize=_AT_ONCE,
        )

    @classmethod
    def of(cls, outputs: Mapping[str, Any], connect_s: float = 5, read_s: float = 30) -> Self:
        """Return the broker of a platform, from the outputs of its stack."""
        if missing := [name for name in _OUTPUTS if not outputs.get(name)]:
            problem = f"the platform has no {missing[0]} among its outputs: nothing is deployed"
            raise BrokerUnavailable(f"{problem}. Run `kryonix up` on its stack")
        url, username, password = (str(outputs[name]) for name in _OUTPUTS)
        return cls(
            url,
            username,
            password,
            connect_s=connect_s,
            read_s=read_s,
            further_urls=outputs.get("management_urls") or (),
            ca_certificate=outputs.get("ca_certificate") or "",
        )

    def answers(self) -> bool:
        """Return True if a broker answers, even with an error."""
        try:
            self.call("GET", "whoami")
        except BrokerUnavailable as error:
            return isinstance(error, BrokerFailed)
        return True

    def vhosts(self) -> list[VhostState]:
        return [VhostState(v["name"], v.get("description") or "") for v in self.get("vhosts")]

    def queues(self, *vhost: str) -> list[QueueState]:
        """Return all queues, or one vhost's; none for an unknown vhost."""
        found = self.find("queues", *vhost, **LIVE_TOTALS) or []
        counted = {
            (q["vhost"], q["name"]): QueueState(
                q["vhost"], q["name"], q["arguments"], q.get("messages", 0), down=q.get("state") in _DOWN
            )
            for q in found
        }
        if all(node["running"] for node in self.find("nodes", columns="name,running") or ()):
            return list(counted.values())
        # The list with totals leaves out queues whose leaders were on nodes that are down.
        every = self.find("queues", *vhost, disable_stats="true", columns="vhost,name,arguments") or []
        uncounted = (QueueState(q["vhost"], q["name"], q["arguments"], 0, down=True) for q in every)
        return list({**{(queue.vhost, queue.name): queue for queue in uncounted}, **counted}.values())

    def fillings(self, *vhost: str) -> list[Filling]:
        """Return the fillings of all queues, or of one vhost's; none for an unknown vhost."""
        found = self.find("queues", *vhost, columns=_FILLING) or []
        return [
            Filling(q["vhost"], q["name"], q.get("messages", 0), q.get("message_bytes", 0), q.get(_POLICY) or {})
            for q in found
        ]

    def messages(self, vhost: str) -> dict[str, int]:
        """Return the messages of each non-empty queue of a vhost, up to 5 s old.

        Raises BrokerUnavailable if one of them is down: it may hold any.
        """
        queues = self.queues(vhost)
        if down := [queue.name for queue in queues if queue.down]:
            problem = f"can't count the messages of {len(down)} queue(s), whose nodes are down, such as {down[0]}"
            raise BrokerUnavailable(f"the broker at {self.url} {problem}. Start them and run again", problem)
        return {queue.name: queue.messages for queue in queues if queue.messages}

    def counts(self, vhost: str) -> dict[str, int | None]:
        """Return the messages of each queue, up to 5 s old. None: not counted yet, as after a start of the broker."""
        return {queue["name"]: queue.get("messages") for queue in self.find("queues", vhost, **LIVE_TOTALS) or []}

    def definitions(self, vhost: str) -> dict[str, Any]:
        """Return a vhost's exchanges, queues, bindings, policies and limits, no users. Empty if missing."""
        try:
            return self.find("definitions", vhost) or {}
        except BrokerFailed as error:
            if error.reason == _NO_VHOST:  # RabbitMQ 4.3 answers 400
                return {}
            raise

    def definitions_version(self) -> str:
        """Return the ETag of the definitions, which any change on the broker changes; empty before RabbitMQ 4.3.5."""
        return self.call("GET", "definitions", unlike="*").headers.get("etag", "")

    def version(self) -> str:
        return str(self.get("overview", disable_stats="true", columns="rabbitmq_version")["rabbitmq_version"])

    def nodes(self) -> dict[str, bool]:
        """Return the members of the cluster; True for those that run."""
        return {node["name"]: node["running"] for node in self.get("nodes", columns="name,running")}

    def import_definitions(self, vhost: str, definitions: Mapping[str, Any]) -> None:
        """Declare objects in a vhost. Success is not proof: the broker skips objects that it can't declare."""
        self.call("POST", "definitions", vhost, json=dict(definitions))

    def bindings(self, queue: QueueState) -> list[BindingState]:
        """Return a queue's bindings, without the one to the default exchange, which every queue has."""
        found = self.find("queues", queue.vhost, queue.name, "bindings") or []
        return [
            BindingState(queue.vhost, b["source"], queue.name, b["routing_key"], b["arguments"], b["properties_key"])
            for b in found
            if b["source"]
        ]

    def bind(self, binding: BindingState) -> None:
        """Create a binding, unless its exchange or its queue is gone."""
        body = {"routing_key": binding.routing_key, "arguments": dict(binding.arguments)}
        self.call("POST", *binding.path, json=body, missing_ok=True)

    def unbind(self, binding: BindingState) -> None:
        self.call("DELETE", *binding.path, binding.properties_key, missing_ok=True)

    def note(self, name: str) -> Any:
        """Return the value of a global parameter, or None."""
        return (self.find("global-parameters", name) or {}).get("value")

    def notes(self, prefix: str) -> dict[str, Any]:
        """Return the global parameters with this prefix, by name."""
        found = self.get("global-parameters")
        return {entry["name"]: entry["value"] for entry in found if entry["name"].startswith(prefix)}

    def put_note(self, name: str, value: Any) -> None:
        self.call("PUT", "global-parameters", name, json={"name": name, "value": value})

    def drop_note(self, name: str) -> None:
        self.call("DELETE", "global-parameters", name, missing_ok=True)

    def users(self, vhost: str) -> list[str]:
        """Return the users with permissions in a vhost, except this client's."""
        found = self.find("vhosts", vhost, "permissions") or []
        return sorted(entry["user"] for entry in found if entry["user"] != self.username)

    def user_limits(self, user: str) -> dict[str, int]:
        """Return a user's limits; empty for an unknown user."""
        found = self.find("user-limits", user) or []
        return {limit: value for entry in found for limit, value in entry["value"].items()}

    def set_user_limit(self, user: str, limit: str, value: int) -> None:
        self.call("PUT", "user-limits", user, limit, json={"value": value})

    def with_other_password(self, passwords: Mapping[str, str]) -> list[str]:
        """Return the users, of these by name, that have another password than this. Empty is none at all."""
        live = [(name, self.find("users", name)) for name in passwords]
        return [name for name, found in live if found and not is_hash_of(str(found["password_hash"]), passwords[name])]

    def set_password(self, user: str, password: str) -> None:
        """Set a user's password, or take it away if this is empty, and keep its tags."""
        body = {"password": password} if password else {}
        self.call("PUT", "users", user, json={**body, "tags": ",".join(self.get("users", user)["tags"])})

    def close_connections(self, user: str, reason: str = "the tenant is being removed") -> None:
        """Close all connections of a user."""
        self.call("DELETE", "connections", "username", user, reason=reason, missing_ok=True)

    def cut_off(self, users: Iterable[str]) -> None:
        """Close all connections of these users, until none is open."""
        for user in users:
            until = time.monotonic() + _CUT_OFF_S
            self.close_connections(user, "the tenant is suspended")
            while self.get("connections", "username", user):
                if time.monotonic() > until:
                    problem = f"connections of {user!r} are still open {_CUT_OFF_S} s after"
                    raise BrokerUnavailable(f"{problem} the broker at {self.url} was asked to close them. Run again")
                time.sleep(0.1)
                self.close_connections(user, "the tenant is suspended")

    def protected(self, vhost: str) -> bool | None:
        """Return True if a vhost is protected from deletion; None if it does not exist."""
        found = self.find("vhosts", vhost)
        return found and bool(found["protected_from_deletion"])

    def protect(self, vhost: str, *, protected: bool) -> None:
        """Switch a vhost's protection from deletion. Accepts switching it off for a missing vhost."""
        method = "POST" if protected else "DELETE"
        self.call(method, "vhosts", vhost, "deletion", "protection", missing_ok=not protected)

    def start(self, vhost: str) -> None:
        """Start a vhost on those running nodes where it is stopped: it refuses connections there.

        The broker cuts the making of a vhost short where the client that asks for it goes away, and starts it within
        30 s by itself. A node that can't start it now is left to that.
        """
        for node, state in (self.find("vhosts", vhost) or {}).get("cluster_state", {}).items():
            if state == "stopped":
                with suppress(BrokerUnavailable):
                    self.call("POST", "vhosts", vhost, "start", node)

    def remains(self, vhost: str, users: Iterable[str]) -> list[str]:
        """Return the names of the vhost and of those users that exist."""
        wanted = [("vhosts", vhost), *(("users", user) for user in users)]
        return [name for kind, name in wanted if self.find(kind, name) is not None]

    def delete_all(self, paths: Sequence[tuple[str, ...]]) -> None:
        """Delete objects, several at a time. Accepts missing ones."""
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            list(pool.map(lambda path: self.call("DELETE", *path, missing_ok=True), paths))
