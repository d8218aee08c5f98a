"""The datacenters' libvirts, or the one in the service's lab, for a command."""

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from sqlalchemy import select

import hypervisor.lab
from api.cli.lab import SERVICE
from api.operations.hosts import Hosts
from api.settings import Settings
from api.store.database import Store
from api.store.models import Datacenter
from hypervisor.libvirt_errors import Unavailable


@contextmanager
def libvirt(settings: Settings, store: Store) -> Iterator[Hosts]:
    """The connections of the datacenters.

    Where this host's libvirt does not answer but a service's lab runs, the whole command
    is run again in that lab, and does not return here.
    """
    with store.reading() as session:
        datacenters = session.scalars(select(Datacenter)).all()
    with reached(settings, datacenters) as hosts:
        yield hosts


@contextmanager
def reached(settings: Settings, datacenters: Iterable[Datacenter]) -> Iterator[Hosts]:
    """As `libvirt`, for datacenters that need not be in the records."""
    hosts = Hosts(settings.libvirt_uri, datacenters)
    hosts.start()
    try:
        try:
            if hosts.own in hosts.places:
                hosts.at(hosts.own).handle(wait=1)
        except Unavailable:
            if os.geteuid() == 0 and any(one.name == SERVICE for one in hypervisor.lab.running()):
                command = [sys.executable, "-m", "api.cli", *sys.argv[1:]]
                sys.exit(hypervisor.lab.enter(command, name=SERVICE))
            raise
        yield hosts
    finally:
        hosts.stop()
