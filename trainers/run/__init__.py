"""One run: its loop, rules, directory and checkpoints, and inference from it."""
