"""`kryonix signup`: the HTTP service, its worker and its keys."""
