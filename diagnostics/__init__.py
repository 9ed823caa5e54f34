"""All that judges a training, before, during and after it."""
