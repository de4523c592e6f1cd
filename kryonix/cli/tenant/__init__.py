"""`kryonix tenant`: one customer with a stack of its own."""
