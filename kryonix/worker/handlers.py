"""Load a worker's handlers from `MODULE:HANDLERS`, and check them before connecting."""

from __future__ import annotations

import importlib
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kryonix.errors import InvalidChoice
from kryonix.messaging import Handler, MessagingError
from kryonix.messaging.checks import check_handler, check_route, checked_model
from kryonix.topology.catalog import Catalog
from kryonix.topology.errors import nearest

Handlers = dict[tuple[str, str], tuple[Handler, Any]]
"""Handler and model, by module and action. Without a model the data is plain JSON."""


def load_handlers(path: str, catalog: Catalog) -> Handlers:
    """Return the handlers of a module attribute: a mapping of `module.action` to a handler, or to (handler, model).

    The working directory is searched first, as by `python -m`. Raises InvalidChoice with all problems.
    """
    found = _attribute(path)
    if not isinstance(found, Mapping) or not found:
        kind = "empty" if isinstance(found, Mapping) else f"{type(found).__name__}, not a mapping"
        raise InvalidChoice(f"{path!r} is {kind}. Map at least one 'module.action' to an async function")
    problems: list[str] = []
    handlers: Handlers = {}
    for name, given in found.items():
        module, _, action = str(name).partition(".")
        handler, model = given if isinstance(given, tuple) and len(given) == 2 else (given, None)
        handlers[module, action] = handler, model
        try:
            check_route(catalog, module, action)
            check_handler(handler)
            checked_model(model)
        except MessagingError as error:
            problems.append(f"{path}[{str(name)!r}]: {error}")
    if problems:
        raise InvalidChoice("\n".join(problems))
    return handlers


def _attribute(path: str) -> Any:
    module_name, colon, attribute = path.partition(":")
    if not (module_name and colon and attribute):
        raise InvalidChoice(f"{path!r} is not of the form MODULE:HANDLERS. Write it as shop.handlers:HANDLERS")
    if not all(part.isidentifier() for part in module_name.split(".")):
        raise InvalidChoice(f"{module_name!r} is not a valid module name. Write it as shop.handlers:HANDLERS")
    sys.path.insert(0, str(Path.cwd()))
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name != module_name.partition(".")[0] and error.name != module_name:
            raise InvalidChoice(f"{module_name!r} imports {error.name!r}, which is not installed") from error
        raise InvalidChoice(f"no module {module_name!r} found. Run this in the folder of the module") from error
    except (Exception, SystemExit) as error:
        raise InvalidChoice(f"cannot import {module_name!r}: {_described(error)}") from error
    if not hasattr(module, attribute):
        known = [name for name in vars(module) if not name.startswith("_")]
        raise InvalidChoice(f"{module_name} has no {attribute!r}; {nearest(attribute, known)}")
    return getattr(module, attribute)


def _described(error: BaseException) -> str:
    """Return the error with its line in the user's code."""
    if isinstance(error, SyntaxError):
        return f"{error.filename}:{error.lineno}: {type(error).__name__}: {error.msg}"
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{last.filename}:{last.lineno}: {type(error).__name__}: {error}"
