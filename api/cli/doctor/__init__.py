"""``hypervisor doctor``: what is wrong here, and the command that mends it."""

from api.cli.doctor.command import doctor

__all__ = ["doctor"]
