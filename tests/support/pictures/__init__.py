"""Pictures of dashboards for the documentation: their JSON, drawn with the answers of a Prometheus."""
