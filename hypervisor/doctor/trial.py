"""A throw-away domain on a pool: it starts, boots what there is to boot, and vanishes.

libvirt destroys it when the connection that made it closes, so that none outlives a process that is killed.
The volume may: its name is always the same, and the next trial on the pool begins by removing it.
"""

import contextlib
import queue
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import libvirt
from lxml import etree

from hypervisor.connection import open_apart
from hypervisor.doctor.finding import Finding, command, ok, problem, warning
from hypervisor.domain.spec import DiskSpec, DomainSpec
from hypervisor.domain.xml import render
from hypervisor.errors import HypervisorError
from hypervisor.libvirt_errors import NoDomain, explained
from hypervisor.storage import volume

PREFIX = "hypervisor-doctor"
"""What the names of domains and volumes begin with."""

_FAMILY = uuid.UUID("0d0c7042-9f0e-4c5b-8c3e-6a1c6d1f5a77")
_VOLUME = f"{PREFIX}.qcow2"
_MEMORY = 192  # MiB
_BOOT = 90.0  # seconds; emulated on a busy host the tiny image takes a third of it
_EMPTY = 64  # MiB


def run(
    connection: libvirt.virConnect, pool: str, base: str | None, sign: bytes, accelerated: bool
) -> Finding:
    """Start a domain whose disk is on `pool`: an overlay on the pool's volume `base`, in which a guest writes
    `sign` to its serial console when it is up, or an empty disk when there is none."""
    subject = f"trial on {pool}"
    try:
        _clean(connection, pool)
        disk = _disk(connection, pool, base)
        try:
            with _started(connection, pool, disk, accelerated) as (domain, seconds):
                if base is None:
                    return ok(subject, f"a machine started within {seconds:.1f} s; there is no image to boot")
                return _booted(subject, connection, domain, sign)
        finally:
            _clean(connection, pool)
    except HypervisorError as error:
        return problem(
            subject,
            f"no machine starts on it: {error}",
            command("tail", f"/var/log/libvirt/qemu/{_name(pool)}.log"),
        )


def _disk(connection: libvirt.virConnect, pool: str, base: str | None) -> Path:
    if base is None:
        return volume.create_empty(connection, pool, _VOLUME, _EMPTY)
    size = volume.capacity(connection, pool, base)
    return volume.create_overlay(connection, pool, _VOLUME, size + 1, volume.path(connection, pool, base))


def _clean(connection: libvirt.virConnect, pool: str) -> None:
    """Remove what a trial on the pool made, now or when it was killed."""
    with contextlib.suppress(NoDomain):
        with explained(f"domain {PREFIX}"):
            domain = connection.lookupByUUIDString(_uuid(pool))
        with explained(f"removal of domain {domain.name()}"):
            if domain.name() == _name(pool):
                domain.destroy()
    volume.delete(connection, pool, _VOLUME)


@contextmanager
def _started(
    connection: libvirt.virConnect, pool: str, disk: Path, accelerated: bool
) -> Iterator[tuple[libvirt.virDomain, float]]:
    """The domain, paused before its first instruction, and the seconds that its start took."""
    spec = DomainSpec(
        uuid=_uuid(pool),
        name=_name(pool),
        vcpus=1,
        max_vcpus=1,
        memory=_MEMORY,
        max_memory=_MEMORY,
        accelerated=accelerated,
        disks=(DiskSpec(alias="ua-trial", path=disk, target="vda", boot=1),),
        hotplug_ports=0,
    )
    flags = libvirt.VIR_DOMAIN_START_AUTODESTROY | libvirt.VIR_DOMAIN_START_PAUSED
    own = open_apart(connection.getURI())
    try:
        begun = time.perf_counter()
        with explained(f"start of domain {spec.name}"):
            domain = own.createXML(_unmarked(spec), flags)
        yield domain, time.perf_counter() - begun
    finally:
        with contextlib.suppress(libvirt.libvirtError):
            own.close()


def _unmarked(spec: DomainSpec) -> str:
    """Without our marks: whoever lists what is the service's must not find it."""
    root = etree.fromstring(render(spec).encode())
    for element in root.findall("metadata"):
        root.remove(element)
    return etree.tostring(root, encoding="unicode")


def _booted(subject: str, connection: libvirt.virConnect, domain: libvirt.virDomain, sign: bytes) -> Finding:
    heard: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    # of its own: a call that waits for the guest's next word holds up the connection
    listening = open_apart(connection.getURI())
    try:
        stream = listening.newStream()
        with explained(f"console of domain {domain.name()}"):
            listening.lookupByUUIDString(domain.UUIDString()).openConsole(
                None, stream, libvirt.VIR_DOMAIN_CONSOLE_FORCE
            )
            threading.Thread(target=_listen, args=(stream, heard), daemon=True).start()
            begun = time.monotonic()
            domain.resume()
        said = b""
        while sign not in said:
            try:
                piece = heard.get(timeout=max(begun + _BOOT - time.monotonic(), 0))
            except queue.Empty:
                return warning(
                    subject,
                    f"a machine started on it, but was not up after {_BOOT:.0f} seconds: "
                    "the host is very busy, or the image is damaged",
                    "hypervisor image build tiny",
                )
            if not piece:
                return problem(subject, "a machine started on it and ended before it was up")
            said = (said + piece)[-8192:]
        return ok(subject, f"a machine booted within {time.monotonic() - begun:.1f} s and was removed")
    finally:
        # ends the listener as well
        with contextlib.suppress(libvirt.libvirtError):
            domain.destroy()
        del listening


def _listen(stream: libvirt.virStream, heard: "queue.SimpleQueue[bytes]") -> None:
    piece: bytes | int = b"-"
    while piece and isinstance(piece, bytes):
        try:
            piece = stream.recv(4096)
        except libvirt.libvirtError:
            piece = b""
        heard.put(piece if isinstance(piece, bytes) else b"")


def _name(pool: str) -> str:
    return f"{PREFIX}-{pool}"


def _uuid(pool: str) -> str:
    return str(uuid.uuid5(_FAMILY, pool))
