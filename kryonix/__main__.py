"""`python -m kryonix`."""

from kryonix.operations.cli import main

main()
