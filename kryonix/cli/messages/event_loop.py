"""Running what is asynchronous from a command, where the SDK's errors become errors with an exit status: once, here."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from kryonix.errors import InvalidChoice, KryonixError, ServiceUnreachable
from kryonix.messaging import (
    ConfigurationError,
    MessagingError,
    NotConnected,
    NotSerializable,
    StatsUnavailable,
    UnknownRoute,
)

__all__ = ["run", "translated"]

Result = TypeVar("Result")


@contextmanager
def translated() -> Iterator[None]:
    """Raise the SDK's errors as this package's."""
    try:
        yield
    except (ConfigurationError, UnknownRoute, NotSerializable) as error:
        raise InvalidChoice(str(error)) from error
    except (NotConnected, StatsUnavailable) as error:
        raise ServiceUnreachable(str(error)) from error
    except MessagingError as error:
        raise KryonixError(str(error)) from error


def run(work: Coroutine[Any, Any, Result]) -> Result:
    """Run to the end, and raise only errors with an exit status."""
    # The SDK says itself what a broken connection means; aiormq adds a traceback, which helps no operator.
    logging.getLogger("aiormq").setLevel(logging.CRITICAL)
    with translated():
        return asyncio.run(work)
