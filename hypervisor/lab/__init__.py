"""The lab: a private libvirt in namespaces, with real guests, that ends without a trace.

``run`` starts one around a command, ``enter`` runs a command in one that runs, ``running`` lists them. What a
lab is and what it cannot do: ``docs/lab.md``.
"""

from hypervisor.lab.errors import CommandNotFound, LabError
from hypervisor.lab.launch import enter, run
from hypervisor.lab.record import Lab, find, running

__all__ = ["CommandNotFound", "Lab", "LabError", "enter", "find", "run", "running"]
