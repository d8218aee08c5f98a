"""``make fuzz``: input that breaks the codec or a method."""
