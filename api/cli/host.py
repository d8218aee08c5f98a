"""The host's libvirt, or the one in the service's lab, for a command."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import hypervisor.lab
from api.cli.lab import SERVICE
from api.settings import Settings
from hypervisor.connection import Connection
from hypervisor.libvirt_errors import Unavailable


@contextmanager
def libvirt(settings: Settings) -> Iterator[Connection]:
    """An open connection.

    Where the host's libvirt does not answer but a service's lab runs, the whole command
    is run again in that lab, and does not return here.
    """
    connection = Connection(settings.libvirt_uri)
    connection.start()
    try:
        try:
            connection.handle(wait=1)
        except Unavailable:
            if os.geteuid() == 0 and any(one.name == SERVICE for one in hypervisor.lab.running()):
                command = [sys.executable, "-m", "api.cli", *sys.argv[1:]]
                sys.exit(hypervisor.lab.enter(command, name=SERVICE))
            raise
        yield connection
    finally:
        connection.stop()
