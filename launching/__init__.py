"""Job files for the launchers: one module each, and what they share."""
