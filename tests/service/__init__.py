"""The whole service with real guests, and what tests of other folders need of it."""
