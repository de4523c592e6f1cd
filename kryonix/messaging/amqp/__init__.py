"""RabbitMQ over AMQP, by aiormq."""
