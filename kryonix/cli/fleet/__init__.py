"""`kryonix fleet`: over the stacks of all tenants."""
