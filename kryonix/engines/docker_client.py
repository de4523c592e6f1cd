"""A client of the Docker daemon on this machine, or of another one by TLS or SSH."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

import docker
from docker.constants import DEFAULT_DOCKER_API_VERSION
from docker.errors import TLSParameterError

from kryonix.engines.docker_ssh import SshAdapter

_FOLDER: Final = "DOCKER_CERT_PATH"


class DockerApi(docker.APIClient):  # type: ignore[misc]  # docker has no types
    """A client that trusts the daemon's own CA: a bundle in REQUESTS_CA_BUNDLE would take its place."""

    def merge_environment_settings(self, url: Any, proxies: Any, stream: Any, verify: Any, cert: Any) -> Any:
        verify = self.verify if verify is None else verify
        return super().merge_environment_settings(url, proxies, stream, verify, cert)


def default_host() -> str:
    """Return the URL of the daemon in DOCKER_HOST, else of this machine's."""
    return os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"


def docker_client(host: str, timeout_s: float) -> DockerApi:
    """Return a client of the daemon at a URL. Raises DockerException if it can't be reached.

    For a daemon with TLS the folder DOCKER_CERT_PATH holds ca.pem, cert.pem and key.pem, as for Docker's own tools.
    """
    if not host.startswith("ssh:"):
        return DockerApi(base_url=host, version="auto", timeout=timeout_s, tls=_tls(host))
    # docker's own way needs paramiko, never times out, and says nothing of why `ssh` failed.
    api = DockerApi(base_url="unix:///ssh", version=DEFAULT_DOCKER_API_VERSION, timeout=timeout_s)
    api.mount("http+docker://", SshAdapter(host, timeout_s))
    try:
        api._version = api.version(api_version=False)["ApiVersion"]
    except BaseException:
        api.close()
        raise
    return api


def _tls(host: str) -> docker.tls.TLSConfig | None:
    given = os.environ.get(_FOLDER, "")
    if not host.startswith("tcp:") or not given:
        return docker.utils.kwargs_from_env().get("tls") if host == os.environ.get("DOCKER_HOST") else None
    folder = Path(given)
    try:
        pair = (str(folder / "cert.pem"), str(folder / "key.pem"))
        return docker.tls.TLSConfig(client_cert=pair, ca_cert=str(folder / "ca.pem"), verify=True)
    except TLSParameterError as error:
        raise TLSParameterError(f"the folder {_FOLDER}, {folder}, lacks ca.pem, cert.pem or key.pem.") from error
