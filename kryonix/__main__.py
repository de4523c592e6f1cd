"""`kryonix` and `python -m kryonix`: the command, where it is installed with what it needs."""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """Run the command, or say how to have it: applications install this package for the SDK alone."""
    try:
        from kryonix.cli.app import main as command
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] == "kryonix":
            raise
        sys.exit(
            f"kryonix: {error.name} is not installed: this is the SDK alone. "
            "For the command: pip install 'kryonix-messaging[platform]'"
        )
    command()


if __name__ == "__main__":
    main()
