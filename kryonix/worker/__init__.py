"""`kryonix worker`: handlers run by consumers that scale with the backlog."""
