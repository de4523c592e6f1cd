"""Placement counts promised capacity, including rows being written."""

from __future__ import annotations

from typing import Any, cast

import pytest

from kryonix.fleet.placement import NoRoom
from kryonix.registry.connection import Connection
from kryonix.registry.desired_states import DesiredState
from kryonix.signup import intake as placing
from kryonix.signup.database import QUERIES
from kryonix.topology.catalog import default_catalog
from kryonix.topology.cells import Cell, Cells
from kryonix.topology.tenants import Tenant

NEW = Tenant(id="new", modules=("portal",), plan="basic")


class Coming:
    """A database in which a worker writes a creation's row after the first look at it, whichever that is."""

    def __init__(self) -> None:
        self.looked = False

    def execute(self, query: object, *_: Any) -> list[dict[str, Any]]:
        if query != QUERIES["fetch_creations_under_way"]:
            return []
        request = {"id": "coming", "modules": ["portal"], "plan": "basic", "cell": "main"}
        return [] if self._after() else [{"request": request}]

    def states(self, _: Connection) -> list[DesiredState]:
        return [DesiredState(cliente_id="coming", modules=("portal",), plan="basic")] if self._after() else []

    def _after(self) -> bool:
        looked, self.looked = self.looked, True
        return looked


@pytest.mark.parametrize(("most", "fits"), [(1, False), (2, True)])
def test_a_creation_recorded_meanwhile_is_counted_once(most: int, fits: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    database = Coming()
    monkeypatch.setattr(placing, "fetch_desired_states", database.states)
    cells = Cells(cells={"main": Cell(platform="organization/kryonix/dev", max_tenants=most)})

    def place() -> str:
        return placing.place(cast(Connection, database), NEW, None, cells, default_catalog())

    if fits:
        assert place() == "main"
    else:
        with pytest.raises(NoRoom):
            place()
