"""Which actions a command is about."""

from __future__ import annotations

from collections.abc import Iterable

from kryonix.errors import InvalidChoice
from kryonix.topology.catalog import Catalog
from kryonix.topology.errors import nearest

__all__ = ["Route", "select_routes"]

Route = tuple[str, str]
"""A module and one of its actions."""


def select_routes(
    catalog: Catalog, modules: Iterable[str] | None, module: str | None, action: str | None
) -> list[Route]:
    """The actions of the modules (all where None), or those of `module` only, or `action` of it only."""
    known = [name for name in catalog.modules if modules is None or name in set(modules)]
    if action is not None and module is None:
        raise InvalidChoice(f"--action {action!r} is given without its module. Add --module")
    if module is not None and module not in known:
        raise InvalidChoice(f"--module {module!r} is not there; {nearest(module, known)}")
    routes = [(name, each) for name in known if module in (None, name) for each in catalog.modules[name].actions]
    if action is None:
        return routes
    if (str(module), action) not in routes:
        hint = nearest(action, [each for _, each in routes])
        raise InvalidChoice(f"--action {action!r} is no action of {module}; {hint}")
    return [(str(module), action)]
