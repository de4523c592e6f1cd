"""RabbitMQ over AMQP, by aio-pika."""
