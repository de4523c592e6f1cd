"""Errors of operations on a cluster.

ClusterNotReady     2  refused before any node was touched
OperationStopped    1  failed midway; the message says how to continue
CommandFailed       1  a command in a node's container failed
"""

from __future__ import annotations

from kryonix.errors import KryonixError


class ClusterNotReady(KryonixError):
    """The cluster can't lose a node now. No node has been touched."""

    exit_status = 2


class OperationStopped(KryonixError):
    """An operation failed midway. The same command continues it."""


class CommandFailed(KryonixError):
    """A command in a node's container failed."""
