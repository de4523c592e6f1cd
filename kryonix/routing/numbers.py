"""Numbers of a model: finite, in a file as in memory."""

from __future__ import annotations

from typing import Annotated

from pydantic import AllowInfNan

Number = Annotated[float, AllowInfNan(False)]
