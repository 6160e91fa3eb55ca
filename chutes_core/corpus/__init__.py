"""A corpus on many machines: the folder of finished rows, and what of it is there."""
