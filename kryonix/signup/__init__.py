"""The signup service. A request is stored as an operation; a worker runs it with `kryonix.tenants`."""
