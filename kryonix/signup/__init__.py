"""The signup service: tenants by HTTP. A request writes an operation; a worker does it by `kryonix.tenants`."""
