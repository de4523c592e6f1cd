"""How the command shows results: tables, progress, JSON."""
