"""The fit of a model: scores on training and held-out rows, against baselines and against random labels."""
