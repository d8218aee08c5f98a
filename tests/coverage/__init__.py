"""The page that says what works."""
