"""Put dead letters back into the queues they came from."""
