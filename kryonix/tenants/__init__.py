"""The lifecycle of tenants with a stack of their own."""
