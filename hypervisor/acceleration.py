"""Whether guests can run under KVM here, found out by booting one.

``/dev/kvm`` may exist, open and create a machine, and a stock kernel may still hang under it: nested hosts
do that. Only a kernel that was seen to boot tells.
"""

import json
import logging
import os
import platform
import selectors
import shutil
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

log = logging.getLogger(__name__)

_DEVICE = Path("/dev/kvm")
_QEMU = "qemu-system-x86_64"
# under emulation the image speaks within seconds: hardware that is slower is not worth having
_PATIENCE = 20.0
# how long a QEMU that has closed its output may take to end, in seconds
_END = 2.0
SIGN = b"tiny: up"
"""What the tiny image writes to its serial console once it is up."""
_ADVICE = 'guests are emulated, which is slow; acceleration = "kvm" in the settings uses KVM all the same'


@dataclass(frozen=True, slots=True)
class _Trial:
    """What came of booting a guest; `lasting` when it would be the same the next time."""

    booted: bool
    lasting: bool
    said: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether KVM works, in words, and the command that may mend it, when there is one.

    `normal` is what nobody needs to be warned of.
    """

    works: bool
    text: str
    mend: str = ""
    normal: bool = False


def usable(image: Path, cache: Path) -> bool:
    """Whether the tiny image at `image` boots under KVM, told to the log; as `examine`."""
    found = examine(image, cache)
    mend = f" (try: {found.mend})" if found.mend else ""
    said = found.text if found.works else f"{found.text}{mend}; {_ADVICE}"
    log.log(logging.INFO if found.normal else logging.WARNING, "%s", said)
    return found.works


def examine(image: Path, cache: Path) -> Verdict:
    """Whether the tiny image at `image` boots under KVM; never raises.

    What was found is kept in the file `cache` and holds until the kernel, the CPU, QEMU or the image change.
    Takes up to 20 seconds the first time. When KVM cannot be tried at all, that is not kept.
    """
    try:
        return _examine(image, cache)
    except Exception as error:  # whatever it is, guests can be emulated
        return Verdict(False, f"KVM could not be tried: {error}")


def _examine(image: Path, cache: Path) -> Verdict:
    if not _DEVICE.exists():
        return Verdict(False, f"there is no {_DEVICE}", "modprobe kvm_intel || modprobe kvm_amd", normal=True)
    if not os.access(_DEVICE, os.R_OK | os.W_OK):
        return Verdict(
            False,
            f"{_DEVICE} may not be opened: this user is not in the group kvm",
            "usermod -aG kvm $(id -un)",
        )
    if not image.exists():
        build = "hypervisor image build tiny"
        return Verdict(False, f"KVM cannot be tried without an image at {image}", build)
    host = _host(image)
    again = f"rm {cache}"
    known = _read(cache, host)
    if known is not None:
        word = "works" if known else "does not work here"
        return Verdict(known, f"KVM {word}, as found earlier ({cache})", "" if known else again, normal=True)
    trial = _boot(image)
    if trial.lasting:
        _write(cache, host, trial.booted)
    if trial.booted:
        return Verdict(True, "KVM works: a guest booted under it", normal=True)
    return Verdict(False, f"KVM does not work here: {trial.said}", again if trial.lasting else "")


def _host(image: Path) -> dict[str, object]:
    """What the result depends on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    qemu = shutil.which(_QEMU)
    return {
        "kernel": f"{platform.release()} {platform.version()}",
        "cpu": sorted({line for line in lines if line.startswith(("model name", "microcode", "flags"))}),
        "qemu": None if qemu is None else [qemu, *_version(Path(qemu))],
        "image": [str(image), *_version(image)],
    }


def _version(file: Path) -> tuple[int, int]:
    status = file.stat()
    return status.st_size, status.st_mtime_ns


def _read(cache: Path, host: dict[str, object]) -> bool | None:
    try:
        known = json.loads(cache.read_text())
    except (OSError, ValueError):
        return None
    if isinstance(known, dict) and known.get("host") == host and isinstance(known.get("usable"), bool):
        return bool(known["usable"])
    return None


def _write(cache: Path, host: dict[str, object], found: bool) -> None:
    written = cache.with_suffix(".new")
    try:
        written.write_text(json.dumps({"host": host, "usable": found}))
        written.rename(cache)
    except OSError as error:
        log.warning("what was found of KVM cannot be kept, each start will try it again: %s", error)


def _boot(image: Path) -> _Trial:
    with tempfile.TemporaryDirectory(prefix="kvm-") as folder:
        overlay = Path(folder) / "disk.qcow2"
        subprocess.run(
            ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", image.absolute(), overlay],
            capture_output=True, check=True, timeout=_PATIENCE,
        )  # fmt: skip
        with (Path(folder) / "errors").open("w+b") as errors:
            machine = subprocess.Popen(
                [_QEMU, "-machine", "q35,accel=kvm", "-cpu", "host", "-m", "256", "-nodefaults",
                 "-no-user-config", "-display", "none", "-serial", "stdio", "-nic", "none",
                 "-drive", f"file={overlay},format=qcow2,if=virtio"],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors,
                cwd=folder,  # a core dump goes with it
            )  # fmt: skip
            try:
                if _speaks(machine):
                    return _Trial(True, True, "")
                status = machine.wait(timeout=_END)
            except subprocess.TimeoutExpired:
                return _Trial(False, True, f"a guest's kernel hung under it for {_PATIENCE:.0f} seconds")
            finally:
                machine.kill()
                machine.wait()
            errors.seek(0)
            said = errors.read().decode(errors="replace").strip().splitlines()
    # QEMU aborts over a CPU that it cannot make; other ends, as for want of memory, may pass
    return _Trial(False, status == -signal.SIGABRT, f"QEMU ended: {said[0] if said else status}")


def _speaks(machine: "subprocess.Popen[bytes]") -> bool:
    assert machine.stdout is not None  # noqa: S101 - it was asked for as a pipe
    deadline, heard = time.monotonic() + _PATIENCE, b""
    with machine.stdout as serial, selectors.DefaultSelector() as ready:
        ready.register(serial, selectors.EVENT_READ)
        while (remaining := deadline - time.monotonic()) > 0 and ready.select(remaining):
            chunk = os.read(serial.fileno(), 4096)
            heard = (heard + chunk)[-8192:]
            if not chunk or SIGN in heard:
                break
    return SIGN in heard
