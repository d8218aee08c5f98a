"""The folder of reservations, read and written as volumes of a libvirt storage pool."""

import time
from ipaddress import IPv4Address

import libvirt
from lxml import etree
from lxml.builder import E

from hypervisor.network.reservation import LEASE, SIZE, Freed, Reservation, content, file_name, from_file_name


class Ledger:
    """What is in the folder now; each change is written at once. One at a time for a network."""

    def __init__(self, pool: libvirt.virStoragePool) -> None:
        self._pool = pool
        self._volumes: dict[Reservation | Freed, libvirt.virStorageVol] = {}
        for volume in pool.listAllVolumes():
            entry = from_file_name(volume.name())
            if entry is not None:
                self._volumes[entry] = volume

    @property
    def reservations(self) -> list[Reservation]:
        """All reservations."""
        return [entry for entry in self._volumes if isinstance(entry, Reservation)]

    def reserve(self, reservation: Reservation) -> None:
        """Let this be the one reservation of its MAC."""
        for entry in self.reservations:
            if entry.mac == reservation.mac and entry != reservation:
                self._end(entry, freed=entry.ipv4 != reservation.ipv4)
        self._write(reservation)
        # a MAC with an address of its own may not stand in the entry of another: dnsmasq might find that one
        self._rewrite({freed.ipv4 for freed in self._freed() if freed.mac == reservation.mac}, reservation)

    def release(self, mac: str) -> None:
        """Let that MAC have no reservation."""
        for entry in self.reservations:
            if entry.mac == mac:
                self._end(entry, freed=True)

    def purge(self) -> None:
        """Forget addresses that were given up so long ago that no lease on them is left."""
        old = [freed for freed in self._freed() if not 0 <= time.time() - freed.when <= LEASE]
        volumes = [self._volumes.pop(freed) for freed in old]
        self._rewrite({freed.ipv4 for freed in old})
        for volume in volumes:
            volume.delete()

    def _freed(self) -> list[Freed]:
        return [entry for entry in self._volumes if isinstance(entry, Freed)]

    def _end(self, entry: Reservation, *, freed: bool) -> None:
        if freed and entry.ipv4:
            # first: should this call end here, the repeated one still finds the reservation
            self._write(Freed(entry.mac, entry.ipv4, int(time.time())))
        self._volumes.pop(entry).delete()

    def _rewrite(self, addresses: set[IPv4Address], but: Reservation | None = None) -> None:
        for entry in self.reservations:
            if entry.ipv4 in addresses and entry != but:
                self._write(entry)

    def _write(self, entry: Reservation | Freed) -> None:
        if entry not in self._volumes:
            target = E.target(E.format(type="raw"), E.permissions(E.mode("0644")))
            xml = E.volume(E.name(file_name(entry)), E.capacity(str(SIZE), unit="bytes"), target)
            # until it is filled the file is all zero bytes, which dnsmasq reads as an empty line
            self._volumes[entry] = self._pool.createXML(etree.tostring(xml, encoding="unicode"))
        if isinstance(entry, Freed):
            return  # its name says it all
        # also when the file is there: an earlier call may have ended before the content was
        stream = self._pool.connect().newStream()
        self._volumes[entry].upload(stream, 0, SIZE)
        stream.send(content(entry, self._former(entry)))
        stream.finish()

    def _former(self, reservation: Reservation) -> set[str]:
        if reservation.ipv4 is None:
            return set()
        macs = {freed.mac for freed in self._freed() if freed.ipv4 == reservation.ipv4}
        return macs - {entry.mac for entry in self.reservations}
