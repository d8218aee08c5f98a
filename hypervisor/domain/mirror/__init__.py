"""A running domain's disks moved to other volumes: mirrored, then switched over together.

Each disk has a job in QEMU that copies it and then keeps the copy in step
(https://libvirt.org/html/libvirt-libvirt-domain.html#virDomainBlockCopy). The jobs go on without us and die
with the machine; where a disk is, and whether its copy is complete, is what the live XML says.

Every function blocks, takes the open connection and the domain's UUID, and may be repeated: a step of an
operation runs again after a crash.
"""

from hypervisor.domain.mirror.copying import Progress, abandon, begin, places, progress
from hypervisor.domain.mirror.switching import switch
from hypervisor.domain.mirror.view import MachineStopped, Mirror, MirrorLost

__all__ = [
    "MachineStopped",
    "Mirror",
    "MirrorLost",
    "Progress",
    "abandon",
    "begin",
    "places",
    "progress",
    "switch",
]
