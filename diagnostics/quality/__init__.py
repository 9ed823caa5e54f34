"""Whether the data are sound: duplicates, missing and wrong values, anomalies, imbalance and shift."""
