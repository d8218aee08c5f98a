"""What an administrator sees of the work: log lines that carry its ids, and figures (metrics)."""
