"""The pure domain: tenants, the catalog, their broker objects and capacity. No I/O, no Pulumi."""
