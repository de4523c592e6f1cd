"""TLS: certificates and their authority, their files and renewal, and what clients trust."""
