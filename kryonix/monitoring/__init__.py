"""Figures of tenants for Prometheus that the broker's own metrics lack."""
