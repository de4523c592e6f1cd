"""`kryonix` and `python -m kryonix`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command. Without its dependencies, print how to install them: applications install only the SDK."""
    try:
        from kryonix.cli.app import main as command
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] == "kryonix":
            raise
        sys.exit(
            f"kryonix: {error.name} is not installed: this installation has only the SDK. "
            "To install the command, run pip install '.[platform]' in the project's folder"
        )
    command()


if __name__ == "__main__":
    main()
