"""Consuming: from a delivery to an answer."""
