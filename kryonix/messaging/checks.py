"""Values that a caller passes, checked before anything is done with them."""

from __future__ import annotations

from typing import Any, Final

from kryonix.messaging.errors import ConfigurationError

__all__ = ["LONGEST", "checked_count", "checked_like", "checked_patience", "checked_seconds", "shown"]

LONGEST: Final = 100_000_000
"""Seconds, three years: more than anybody waits, and still a time that a clock can add."""


def shown(value: Any) -> str:
    """A value as an error shows it, cut to what a line holds. Integers may have too many digits for text."""
    try:
        return repr(value)[:60]
    except Exception:  # noqa: BLE001 - the value is the caller's, and so is what its repr raises
        return f"of type {type(value).__name__}"


def checked_like(name: str, value: Any, *methods: str) -> None:
    """Whether a part that a caller brings has the methods that will be called. Raises ConfigurationError."""
    if isinstance(value, type) or not all(callable(getattr(value, method, None)) for method in methods):
        problem = f"{name} {shown(value)} is no object with {', '.join(f'{method}()' for method in methods)}"
        raise ConfigurationError(problem, remedy="Pass an object, not its class or its name")


def checked_seconds(name: str, value: Any, *, message_id: str | None = None) -> float:
    """A time that can be waited for. Raises ConfigurationError."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value <= LONGEST:
        return float(value)
    problem = f"{name} {shown(value)} is no time to wait"
    raise ConfigurationError(problem, message_id=message_id, remedy=f"Pass seconds, above 0 and up to {LONGEST:,}")


def checked_patience(name: str, value: Any) -> float:
    """As `checked_seconds`, and 0 for not waiting at all."""
    return 0.0 if value == 0 and not isinstance(value, bool) else checked_seconds(name, value)


def checked_count(name: str, value: Any, most: int) -> int:
    """A whole number from 1 to `most`. Raises ConfigurationError."""
    if type(value) is int and 1 <= value <= most:
        return value
    problem = f"{name} {shown(value)} is not a whole number from 1 to {most:,}"
    raise ConfigurationError(problem, remedy="Pass one in between")
