"""A broker of several nodes: their state, replacing them one after the other, and adding nodes."""
