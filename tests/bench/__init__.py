"""``make bench``: every figure beside its baseline, from the same run."""
