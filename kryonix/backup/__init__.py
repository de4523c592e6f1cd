"""Backups of tenants and of the platform: encrypted bundles, their stores, and restores that are verified."""
