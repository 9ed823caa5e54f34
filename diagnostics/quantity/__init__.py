"""Whether there are enough examples: in all, and of each class and group."""
