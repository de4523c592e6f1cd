"""All tenants of a project: status, drift, rollouts and placement on cells."""
