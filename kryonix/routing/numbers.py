"""Numbers of a model and of outcomes: finite, and small enough to be added and multiplied."""

from __future__ import annotations

from typing import Annotated, Final

from annotated_types import Ge, Le
from pydantic import AllowInfNan

LARGEST: Final = 1e14
"""As many ms are 3,000 years; as many bytes, 100 TB."""

Number = Annotated[float, AllowInfNan(False), Ge(-1e30), Le(1e30)]
Error = Annotated[float, AllowInfNan(False), Ge(0), Le(100)]
"""Of a logarithm."""
