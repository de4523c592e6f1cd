"""The Docker daemon: one connection for all handlers of the package, and its errors in our terms."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import docker
import requests
from docker.errors import APIError, DockerException, NotFound

from kryonix.engines.local.errors import ApplyFailed, ServiceUnavailable

__all__ = ["Daemon"]

REQUEST_SECONDS: Final = 300


class Daemon:
    """A Docker daemon; connected to when first used, safe to use from many threads."""

    def __init__(self, host: str) -> None:
        self.host = host
        self._lock = threading.Lock()
        self._api: docker.APIClient | None = None

    @contextmanager
    def api(self, doing: str) -> Iterator[docker.APIClient]:
        """The client, with every error but NotFound in our terms. `doing` is as in "create network `n`"."""
        try:
            yield self._connected()
        except NotFound:
            raise
        except APIError as error:
            raise ApplyFailed(f"docker would not {doing}: {error.explanation or error}") from None
        except (DockerException, requests.RequestException) as error:
            raise ServiceUnavailable(self._unreachable(error)) from None

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            if self._api is not None:
                self._api.close()
                self._api = None

    def _connected(self) -> docker.APIClient:
        with self._lock:
            if self._api is None:
                tls = docker.utils.kwargs_from_env().get("tls") if self.host == os.environ.get("DOCKER_HOST") else None
                self._api = docker.APIClient(base_url=self.host, version="auto", timeout=REQUEST_SECONDS, tls=tls)
            return self._api

    def _unreachable(self, error: Exception) -> str:
        text = str(error)
        if "Permission denied" in text:
            return (
                f"docker at {self.host} refuses this user. Run as a user of the group docker, "
                "or name another daemon by DOCKER_HOST or the config key docker:host."
            )
        reason = "nothing listens there" if "No such file" in text or "refused" in text else text
        return (
            f"docker can't be reached at {self.host}: {reason}. Install Docker and start it (`dockerd`), "
            "or name another daemon by DOCKER_HOST or the config key docker:host."
        )
