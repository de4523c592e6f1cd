"""Write the dashboards' files: `python -m kryonix.monitoring.dashboards [FOLDER]`."""

from __future__ import annotations

import sys
from pathlib import Path

from kryonix.monitoring.dashboards import ALL

FOLDER = Path("components/monitoring_files/dashboards")


def write(folder: Path) -> None:
    """Write every dashboard to a file named like it."""
    folder.mkdir(parents=True, exist_ok=True)
    for dashboard in ALL:
        (folder / dashboard.file).write_text(dashboard.text(), encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
