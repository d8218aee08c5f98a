"""``hosting.vm.*``: virtual machines (the reference's "Virtual Machine API Reference")."""

from api.methods.vm import changes, creation, devices, life, listing, migration

__all__ = ["changes", "creation", "devices", "life", "listing", "migration"]
