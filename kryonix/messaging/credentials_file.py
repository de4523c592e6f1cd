"""A file with what applications log in with: one tenant's credentials, or the outputs of a stack."""

from __future__ import annotations

import json
import logging
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from kryonix.messaging.errors import ConfigurationError
from kryonix.topology.naming import tenant_of_vhost

__all__ = ["WRITE_IT", "read_outputs"]

log = logging.getLogger("kryonix.messaging")

WRITE_IT: Final = "`kryonix tenant credentials ID --output FILE`"
"""The command that writes such a file."""


def read_outputs(file: Path, *, private: bool) -> Any:
    """Return the file's content in the form of a stack's outputs, `{"tenants": {ID: {"amqp_uri": …}}}`.

    One tenant's credentials (`kryonix tenant credentials`, `create`, `rotate`) become outputs with that tenant only.
    With `private` a file that its group or others may read is refused; without, one that everybody may read is
    warned about: secrets that Docker or Kubernetes mounts are often so. Raises ConfigurationError.
    """
    content = _json_of(file, private)
    if isinstance(content, Mapping) and "tenants" not in content and (tenant := _tenant_of(content)) is not None:
        return {"management_url": content.get("management_url"), "tenants": {tenant: content}}
    return content


def _json_of(file: Path, private: bool) -> Any:
    try:
        with file.open("rb") as opened:
            _check_mode(file, stat.S_IMODE(os.fstat(opened.fileno()).st_mode), private)
            return json.loads(opened.read())
    except OSError as error:
        problem = f"{str(file)!r} can't be read: {error.strerror}"
        raise ConfigurationError(problem, remedy=f"Name a file that can, or write it with {WRITE_IT}") from error
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"{str(file)!r} is not JSON", remedy=f"Write it with {WRITE_IT}") from error


def _check_mode(file: Path, mode: int, private: bool) -> None:
    if os.name != "posix":
        return  # modes say nothing there
    problem = f"{str(file)!r} holds passwords and has mode {mode:03o}, so that others can read it"
    if private and mode & 0o077:
        remedy = f"Run `chmod 600 {file}`, and change the passwords if others may have read them"
        raise ConfigurationError(problem, remedy=remedy)
    if mode & 0o007:
        log.warning("%s. Run `chmod 600 %s`, and change the passwords if others may have read them", problem, file)


def _tenant_of(credentials: Mapping[Any, Any]) -> str | None:
    """Return the tenant whose credentials these are: by its AMQP URI, which alone is used to log in."""
    uri = credentials.get("amqp_uri")
    try:
        return tenant_of_vhost(unquote(urlsplit(uri).path[1:])) if isinstance(uri, str) else None
    except ValueError:
        return None
