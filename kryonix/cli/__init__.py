"""What operators do: the `kryonix` command and what stands behind it."""
