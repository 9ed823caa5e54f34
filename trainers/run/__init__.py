"""One run: its directory, its checkpoints, its phases, and its use afterwards."""
