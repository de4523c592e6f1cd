"""URNs, Pulumi's names for resources: `urn:pulumi:{stack}::{project}::{parent type$type}::{name}`."""

from __future__ import annotations

__all__ = ["STACK_TYPE", "make", "name_of", "package_of", "type_of"]

STACK_TYPE = "pulumi:pulumi:Stack"


def make(stack: str, project: str, parent: str, type_token: str, name: str) -> str:
    """The URN of a resource; a parent's own types come first in the type, save where the parent is the stack."""
    qualified = type_token
    if parent:
        parent_types = _qualified_type(parent)
        if parent_types != STACK_TYPE:
            qualified = f"{parent_types}${type_token}"
    return f"urn:pulumi:{stack}::{project}::{qualified}::{name}"


def name_of(urn: str) -> str:
    """The resource's name in the program."""
    return urn.split("::", 3)[3]


def type_of(urn: str) -> str:
    """The type token, without the parents' types."""
    return _qualified_type(urn).rsplit("$", 1)[-1]


def package_of(type_token: str) -> str:
    """`rabbitmq` of `rabbitmq:index/queue:Queue`."""
    return type_token.split(":", 1)[0]


def _qualified_type(urn: str) -> str:
    return urn.split("::", 3)[2]
