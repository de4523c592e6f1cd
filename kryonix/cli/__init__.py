"""The `kryonix` command."""
