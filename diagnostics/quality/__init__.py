"""Whether the data are sound: what stands twice, is missing, wrong, odd, unequal or not like what will come."""
