"""`kryonix plan --against`: both sides of a change, from files and from git, and how they are shown."""
