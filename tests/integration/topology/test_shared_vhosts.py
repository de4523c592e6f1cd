"""Shared vhosts: each has one user, limited to that vhost."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator
from dataclasses import replace

import pytest
from aiormq.exceptions import ChannelAccessRefused

from tests.support.amqp import CONNECTION_REFUSED, Account, publish

USERS = {
    "/kryonix-master": "kryonix-master",
    "/shared-services": "kryonix-shared-services",
    "/monitoring": "kryonix-monitoring",
    "/backup-operations": "kryonix-backup-operations",
}
ELSEWHERE = ("/", "/cliente_acme", "/cliente_beta")


@pytest.fixture(params=USERS)
def shared(admin: Account, request: pytest.FixtureRequest) -> Iterator[Account]:
    """The user of a shared vhost, for the test with a password that the test knows."""
    vhost = str(request.param)
    user, password = USERS[vhost], secrets.token_hex()
    before = admin.get("users", user)
    admin.call("PUT", "users", user, json={"password": password, "tags": before["tags"]}).raise_for_status()
    yield replace(admin, username=user, password=password, vhost=vhost)
    restored = {key: before[key] for key in ("password_hash", "hashing_algorithm", "tags")}
    admin.call("PUT", "users", user, json=restored).raise_for_status()


def test_each_shared_vhost_has_one_user_and_no_tenant(admin: Account) -> None:
    permissions = admin.get("permissions")
    for vhost, user in USERS.items():
        assert {entry["user"] for entry in permissions if entry["vhost"] == vhost} == {user, admin.username}
        assert [entry["vhost"] for entry in permissions if entry["user"] == user] == [vhost]


def test_every_shared_vhost_describes_its_purpose(admin: Account) -> None:
    purposes = {vhost["name"]: vhost["description"] for vhost in admin.get("vhosts") if vhost["name"] in USERS}
    assert set(purposes) == set(USERS)
    assert all(purposes.values())


def test_no_shared_user_is_an_administrator(admin: Account) -> None:
    tags = {user["name"]: set(user["tags"]) for user in admin.get("users")}
    assert all(tags[user] <= {"management", "monitoring"} for user in USERS.values())


def test_a_shared_user_opens_only_its_vhost(shared: Account) -> None:
    async def run() -> None:
        async with shared.channel():
            pass
        for vhost in {*USERS, *ELSEWHERE} - {shared.vhost}:
            with pytest.raises(CONNECTION_REFUSED, match=r"got <Connection\.Close"):
                await shared.at(vhost).connect()

    asyncio.run(run())


def test_a_shared_user_cannot_configure_or_write_other_names(shared: Account) -> None:
    async def run() -> None:
        async with await shared.connect() as connection:
            for name in ("kryonix.x", "shared.x", "metrics.x", "backup.x", "x"):
                async with connection.channel() as channel:
                    with pytest.raises(ChannelAccessRefused):
                        await channel.declare_queue(name)
                async with connection.channel() as channel:
                    with pytest.raises(ChannelAccessRefused):
                        await channel.declare_exchange(name)
            for name in ("", "amq.topic", "cliente_acme"):
                async with connection.channel() as channel:
                    with pytest.raises(ChannelAccessRefused):
                        await publish(channel, name, "x")

    asyncio.run(run())
