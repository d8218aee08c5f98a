"""Serial consoles over SSH."""
