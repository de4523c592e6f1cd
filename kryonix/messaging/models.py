"""Where a router's model comes from: a file, a web server, or the platform's registry."""

from __future__ import annotations

import asyncio
import errno
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol
from urllib.parse import unquote, urlsplit

from kryonix.messaging.errors import ConfigurationError
from kryonix.messaging.postgres import Postgres
from kryonix.routing.modes import Mode

if TYPE_CHECKING:
    import httpx

_TIMEOUT_S: Final = 10.0
_LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")
_REMEDY: Final = "Pass a path, or an address file://, https:// or postgresql://"


@dataclass(frozen=True, slots=True)
class Fetched:
    """A model's file, and the mode that its source asks for. No content: the source names no model."""

    name: str
    content: bytes | None
    mode: Mode = "shadow"
    canary: float = 10.0


class Source(Protocol):
    """A place of models. `shown` names it without a login."""

    shown: str

    async def fetch(self, tenant: str) -> Fetched:
        """Return what is there now. Raises ModelRefused if there is none, and anything if it can't be asked."""

    def explain(self, error: Exception) -> str:
        """Return an error in words, without any part that may be a secret."""

    async def close(self) -> None: ...


def source_of(model: str | Path) -> Source:
    """Return the source that a path or an address names. Raises ConfigurationError."""
    if isinstance(model, Path) or "://" not in model:
        return _File(Path(model))
    try:
        parts = urlsplit(model)
        host = parts.hostname
    except ValueError:
        raise ConfigurationError("model: it is not a valid address", remedy=_REMEDY) from None
    match parts.scheme:
        case "file" if host in (None, "localhost"):
            return _File(Path(unquote(parts.path)))
        case "https" if host:
            return _Web(model)
        case "http" if host in _LOOPBACK:
            return _Web(model)
        case "postgresql" | "postgres":
            return _Registry(model)
    raise ConfigurationError(f"model: an address {parts.scheme[:20]}:// can't be read", remedy=_REMEDY)


class _File:
    def __init__(self, path: Path) -> None:
        self._path, self.shown = path, str(path)

    async def fetch(self, tenant: str) -> Fetched:
        from kryonix.routing.model import ModelRefused

        try:
            return Fetched(self.shown, await asyncio.to_thread(self._read))
        except OSError as error:
            raise ModelRefused(f"{self.shown}: there is no model ({error.strerror})") from error

    def _read(self) -> bytes:
        from kryonix.routing.model import MAX_BYTES

        if self._path.is_fifo():  # to open one waits for its writer, and the program could not end
            raise OSError(errno.EINVAL, "a pipe is not a file")
        with self._path.open("rb") as file:
            return file.read(MAX_BYTES + 1)

    def explain(self, error: Exception) -> str:
        return f"{type(error).__name__}: {error}"

    async def close(self) -> None: ...


class _Web:
    def __init__(self, address: str) -> None:
        parts = urlsplit(address)
        self._address = address
        self.shown = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
        self._client: httpx.AsyncClient | None = None

    async def fetch(self, tenant: str) -> Fetched:
        import httpx

        from kryonix.routing.model import MAX_BYTES, ModelRefused

        if self._client is None:
            self._client = httpx.AsyncClient(timeout=_TIMEOUT_S)
        content = b""
        async with self._client.stream("GET", self._address) as response:
            if response.is_server_error:
                raise OSError(f"it answers {response.status_code}")
            if response.status_code != httpx.codes.OK:
                raise ModelRefused(f"{self.shown}: there is no model, it answers {response.status_code}")
            async for part in response.aiter_bytes():
                content += part
                if len(content) > MAX_BYTES:
                    break
        return Fetched(self.shown, content)

    def explain(self, error: Exception) -> str:
        text = str(error) if isinstance(error, OSError) else ""
        return text or type(error).__name__

    async def close(self) -> None:
        if self._client is not None:
            client, self._client = self._client, None
            await client.aclose()


class _Registry:
    """The registry's view of the tenant's present model. The content is fetched only when the version changes."""

    def __init__(self, address: str) -> None:
        parts = urlsplit(address)
        self.shown = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
        self._database = Postgres(address)
        self._held: tuple[str, bytes] | None = None

    async def fetch(self, tenant: str) -> Fetched:
        from kryonix.routing.model import ModelRefused

        asked = {"tenant": tenant}
        rows = await self._database.fetch(f"SELECT mode, canary, version {_CURRENT}", asked)
        if not rows:
            raise ModelRefused(f"{self.shown}: it has no model for {tenant}, or not for this login")
        mode, canary, version = rows[0]
        if version is None:
            return Fetched(self.shown, None, mode, float(canary))
        if self._held is None or self._held[0] != version:
            (content,) = (await self._database.fetch(f"SELECT content {_CURRENT}", asked))[0]
            self._held = version, bytes(content)
        return Fetched(self.shown, self._held[1], mode, float(canary))

    def explain(self, error: Exception) -> str:
        # Errors of an address quote parts of it, which may be the password; those of a server don't.
        text = str(error).partition("\n")[0]
        return text if text.startswith("connection failed") else type(error).__name__

    async def close(self) -> None:
        await self._database.close()


_CURRENT: Final = "FROM tenants.routing_current WHERE cliente_id = %(tenant)s"
