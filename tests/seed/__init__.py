"""What guests are told at their first boot."""
