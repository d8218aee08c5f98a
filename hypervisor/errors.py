"""Errors of the hypervisor, in words that tell a person what to do."""


class HypervisorError(Exception):
    """Something that was asked of the host could not be done."""
