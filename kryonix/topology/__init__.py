"""The pure domain: what a customer has, what that makes on the broker, and whether it fits. No I/O, no Pulumi."""
