"""Expand tenants with the base's own code. A script: `python -I expander.py FOLDER TENANTS CATALOG`.

FOLDER holds the base's `kryonix/topology`; CATALOG `-` is the catalog in there. Standard output gets a line per tenant,
`ID<tab>EXPANSION`. Exit status: 0 done, 2 the base did not accept its own input. Import nothing of the present code,
and use only the common ground of all versions: slotted dataclasses, models, and the names in `main`.
"""

from __future__ import annotations

import gc
import json
import sys
from pathlib import Path
from typing import Any


def write_topology(topology: Any) -> str:
    """Return an expansion as text, for `sides.read_topology`. Equal expansions give equal texts."""
    return json.dumps(topology, default=_fields, separators=(",", ":"))


def _fields(value: Any) -> Any:
    if hasattr(value, "model_dump"):
        return value.model_dump()
    return {name: getattr(value, name) for name in value.__slots__}


def main(folder: str, tenants_file: str, catalog_file: str) -> int:
    sys.path.insert(0, folder)
    gc.disable()  # a million small objects, and no cycle among them
    from kryonix.topology import expansion, tenants
    from kryonix.topology.catalog import default_catalog, parse_catalog
    from kryonix.topology.errors import InvalidInput

    if not Path(expansion.__file__).resolve().is_relative_to(Path(folder).resolve()):
        raise SystemExit(f"{expansion.__file__} is not the base's code")
    try:
        catalog = default_catalog()
        if catalog_file != "-":
            catalog = parse_catalog(Path(catalog_file).read_bytes(), Path(catalog_file).name)
        for tenant in tenants.parse_tenants(Path(tenants_file).read_bytes(), Path(tenants_file).name, catalog):
            sys.stdout.write(f"{tenant.id}\t{write_topology(expansion.expand(tenant, catalog))}\n")
    except InvalidInput as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
