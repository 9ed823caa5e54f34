"""The search for good hyperparameters: its space, its study, its rungs and its report."""
