"""Kryonix messaging: isolated RabbitMQ infrastructure for every customer, from one list."""
