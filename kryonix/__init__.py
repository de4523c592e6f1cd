"""Kryonix messaging: isolated RabbitMQ infrastructure for every customer, from one list."""

__version__ = "1.0.0"
"""The version of the package, of the API, and of the header `kryonix-sdk-version`."""
