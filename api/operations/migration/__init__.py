"""Moves between datacenters: a VM in two phases, running or halted; a detached disk or interface in one.

First everything is copied and, while the VM runs, kept in step (`wait_sync`, `wait_finalize`): until then it
can be cancelled, and whatever fails is undone. Then the disks are switched, the records follow, and the
interfaces take their new addresses: from the switch on nothing is undone any more, and what fails is
repeated. The sources are deleted last.
"""

from api.operations.migration import detached, vm

__all__ = ["detached", "vm"]
