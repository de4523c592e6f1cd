"""The cell of a new tenant: the one that was asked for, or the one with the most room by what is promised already."""

from __future__ import annotations

from kryonix.engines.errors import InvalidTenant
from kryonix.fleet.members import cell_loads
from kryonix.fleet.placement import Load, choose_cell, load_of
from kryonix.registry.desired_states import fetch_desired_states
from kryonix.registry.rows import Connection
from kryonix.signup.sql import QUERIES
from kryonix.topology.catalog import Catalog
from kryonix.topology.cells import Cells
from kryonix.topology.errors import InvalidInput
from kryonix.topology.tenants import Tenant

__all__ = ["place"]


def place(connection: Connection, tenant: Tenant, asked: str | None, cells: Cells, catalog: Catalog) -> str:
    """The name of the cell. Raises InvalidTenant for one that there is not, and NoRoom where none has room.

    Brokers are not asked: what rows promise is known at once, and what is promised has to fit.
    """
    if asked is not None:
        try:
            cells.cell(asked)
        except InvalidInput as error:
            raise InvalidTenant([f"{problem.field}: {problem.message}" for problem in error.problems]) from error
        return asked
    connection.execute(QUERIES["hold_placement"])
    # In this order: a creation whose row is written between the two reads is seen by both, and not by neither.
    coming = [Tenant.model_validate(row["request"]) for row in connection.execute(QUERIES["fetch_creations_under_way"])]
    states = fetch_desired_states(connection)
    loads = cell_loads(states, {}, {}, catalog)
    there = {state.cliente_id for state in states if state.status != "removed"}
    for each in coming:
        if each.id not in there:
            loads[each.cell] = loads.get(each.cell, Load()) + load_of(each, catalog)
    return choose_cell(load_of(tenant, catalog), cells, loads).cell
