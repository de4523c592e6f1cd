"""The RabbitMQ management API, for synchronous callers."""
