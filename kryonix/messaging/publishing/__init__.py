"""Sending: from data to a confirmed message."""
