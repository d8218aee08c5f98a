"""Looks at a host and says what is wrong with it, each finding with the command that mends it.

Whatever a look makes bears a name that nothing else has, and is removed when the look ends, or by the next
one when the process was killed. What belongs to others is only read.
"""

from hypervisor.doctor.finding import Finding, Level

__all__ = ["Finding", "Level"]
