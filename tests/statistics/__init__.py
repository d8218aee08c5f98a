"""What guests use of the host."""
