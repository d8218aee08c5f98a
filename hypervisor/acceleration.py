"""Whether guests can run under KVM here, found out by booting one.

``/dev/kvm`` may exist, open and create a machine, and a stock kernel may still hang under it: nested hosts
do that. Only a kernel that was seen to boot tells.
"""

import json
import logging
import os
import platform
import selectors
import subprocess
import tempfile
import time
from pathlib import Path

log = logging.getLogger(__name__)

_DEVICE = Path("/dev/kvm")
# under emulation the image speaks within seconds: hardware that is slower is not worth having
_PATIENCE = 20.0
_SIGN = b"tiny: up"


def usable(image: Path, cache: Path) -> bool:
    """Whether the tiny image at `image` boots under KVM; what was found is kept in the file `cache` until
    the host changes.

    Takes up to 20 seconds the first time. False when the device cannot be opened or `image` is missing.
    """
    if not os.access(_DEVICE, os.R_OK | os.W_OK):
        log.info("guests are emulated: %s cannot be opened", _DEVICE)
        return False
    host = {"kernel": platform.release(), "cpu": _cpu_model(), "image": str(image)}
    try:
        known = json.loads(cache.read_text())
        if known["host"] == host:
            return bool(known["usable"])
    except (OSError, ValueError, KeyError):
        log.debug("the host's KVM was not tried yet")
    if not image.exists():
        log.info("guests are emulated: there is no image at %s to try KVM with", image)
        return False
    found = _boots(image)
    log.info(
        "KVM %s: a guest %s under it", *(("works", "booted") if found else ("does not work", "did not boot"))
    )
    written = cache.with_suffix(".new")
    written.write_text(json.dumps({"host": host, "usable": found}))
    written.rename(cache)
    return found


def _cpu_model() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


def _boots(image: Path) -> bool:
    with tempfile.TemporaryDirectory(prefix="kvm-") as folder:
        overlay = Path(folder) / "disk.qcow2"
        made = subprocess.run(
            ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", str(image), str(overlay)],
            capture_output=True,
            check=False,
        )
        if made.returncode:
            log.warning("KVM could not be tried: %s", made.stderr.decode(errors="replace").strip())
            return False
        machine = subprocess.Popen(
            ["qemu-system-x86_64", "-machine", "q35,accel=kvm", "-cpu", "host", "-m", "256", "-nodefaults",
             "-no-user-config", "-display", "none", "-serial", "stdio", "-nic", "none",
             "-drive", f"file={overlay},format=qcow2,if=virtio"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            return _speaks(machine)
        finally:
            machine.kill()
            machine.wait()


def _speaks(machine: subprocess.Popen[bytes]) -> bool:
    assert machine.stdout is not None  # noqa: S101 - it was asked for as a pipe
    deadline, heard = time.monotonic() + _PATIENCE, b""
    with machine.stdout as serial, selectors.DefaultSelector() as ready:
        ready.register(serial, selectors.EVENT_READ)
        while (remaining := deadline - time.monotonic()) > 0 and ready.select(remaining):
            chunk = os.read(serial.fileno(), 4096)
            heard = (heard + chunk)[-8192:]
            if not chunk or _SIGN in heard:
                break
    return _SIGN in heard
