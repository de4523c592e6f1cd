"""`kryonix send`, `consume`, `stats` and `redrive`: messages, as one tenant."""
