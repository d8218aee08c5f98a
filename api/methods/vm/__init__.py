"""``hosting.vm.*``: virtual machines (the reference's "Virtual Machine API Reference")."""

from api.methods.vm import creation, life, listing

__all__ = ["creation", "life", "listing"]
