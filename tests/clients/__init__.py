"""The published clients of the API."""
