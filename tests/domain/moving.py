"""A guest that writes and answers all the time, and what can be found out about it from outside."""

import base64
import json
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import libvirt
import libvirt_qemu

from hypervisor.domain import power
from tests.domain.second_host import run
from tests.service.waiting import until

ADDRESS = "10.98.7.10"
_WRITE = """
killall -9 udhcpc; ip address add {address}/24 dev eth0
for d in {disks}; do
    mkfs.ext4 -q /dev/$d; mkdir /mnt/$d; mount /dev/$d /mnt/$d; done
cat > /root/write <<'S'
n=0
while [ ! -e /run/enough ]; do
    n=$((n + 1))
    for f in /root /mnt/*; do echo $n | dd of=$f/counter oflag=append conv=notrunc,fsync 2>/dev/null; done
done
touch /run/over
S
setsid sh /root/write </dev/null >/dev/null 2>&1 &
"""
_END = """
touch /run/enough; until [ -e /run/over ]; do sleep 0.1; done
for d in {disks}; do umount /mnt/$d; done; cat /proc/sys/kernel/random/boot_id
"""


class Guest:
    """A running tiny guest with its agent, wherever its domain is."""

    def __init__(self, uuid: str, disks: list[str]) -> None:
        self.uuid = uuid
        self._disks = " ".join(disks)

    def work(self, connection: libvirt.virConnect) -> str:
        """Let it begin to write and to answer; its boot id."""
        boot_id = self.boot_id(connection)
        self.shell(connection, _WRITE.format(address=ADDRESS, disks=self._disks))
        return boot_id

    def boot_id(self, connection: libvirt.virConnect) -> str:
        """Which boot this is, once its agent answers."""
        until(lambda: self._answers(connection), 90, "the guest's agent answers")
        return self.shell(connection, "cat /proc/sys/kernel/random/boot_id").strip()

    def finish(self, connection: libvirt.virConnect) -> str:
        """Let it end and power off; its boot id."""
        said = self.shell(connection, _END.format(disks=self._disks)).strip()
        power.request_shutdown(connection, self.uuid)
        until(lambda: not power.state(connection, self.uuid).powered, 30, "the guest powers off")
        return said

    def power_off(self, connection: libvirt.virConnect) -> None:
        """Let it power itself off, soon."""
        self.shell(connection, "(sleep 1; poweroff) </dev/null >/dev/null 2>&1 &")

    def written(self, connection: libvirt.virConnect) -> int:
        """How far it has counted."""
        return int(self.shell(connection, "tail -n1 /root/counter") or 0)

    def shell(self, connection: libvirt.virConnect, script: str) -> str:
        """Run a script in it; what it wrote."""
        arguments = {"path": "/bin/sh", "arg": ["-c", script], "capture-output": True}
        pid = self._ask(connection, "guest-exec", arguments)["pid"]
        done = until(
            lambda: self._ended(self._ask(connection, "guest-exec-status", {"pid": pid})), 60, "it ends"
        )
        return base64.b64decode(done.get("out-data", "")).decode()

    @staticmethod
    def _ended(status: dict[str, str]) -> dict[str, str]:
        return status if status["exited"] else {}

    def _answers(self, connection: libvirt.virConnect) -> bool:
        try:
            self._ask(connection, "guest-ping", {})
        except libvirt.libvirtError:
            return False
        return True

    def _ask(
        self, connection: libvirt.virConnect, command: str, arguments: dict[str, object]
    ) -> dict[str, str]:
        domain = power.lookup(connection, self.uuid)
        question = json.dumps({"execute": command, "arguments": arguments})
        answer = json.loads(libvirt_qemu.qemuAgentCommand(domain, question, 10, 0))["return"]
        assert isinstance(answer, dict)
        return answer


class Gaps:
    """When the guest answered, asked each 50 ms."""

    def __init__(self) -> None:
        self.times: list[float] = []

    @property
    def longest(self) -> float:
        """The longest time without an answer, in seconds."""
        return max(after - before for before, after in zip(self.times, self.times[1:], strict=False))


@contextmanager
def pinged() -> Iterator[Gaps]:
    """Ask the guest all the time (ICMP echo)."""
    gaps, over = Gaps(), threading.Event()
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as handle:
        handle.settimeout(0.05)

        def ask() -> None:
            number = 0
            while not over.wait(0.05):
                number = (number + 1) % 65536
                plain = struct.pack("!BBHHH", 8, 0, 0, 98, number)
                total = sum(struct.unpack("!4H", plain))
                checksum = ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF
                handle.sendto(plain[:2] + struct.pack("!H", checksum) + plain[4:], (ADDRESS, 0))

        def listen() -> None:
            while not over.is_set():
                try:
                    packet = handle.recv(100)
                except TimeoutError:
                    continue
                if packet[20] == 0:
                    gaps.times.append(time.monotonic())

        threads = [threading.Thread(target=ask), threading.Thread(target=listen)]
        for thread in threads:
            thread.start()
        try:
            until(lambda: gaps.times, 30, "the guest answers")
            yield gaps
        finally:
            over.set()
            for thread in threads:
                thread.join()


def counted(volume: Path, folder: Path, place: str, *, partition: bool = False) -> int:
    """Check the file system in the volume, and that the counter in it is whole; how far it counts."""
    raw = folder / "raw"
    run("qemu-img", "check", "-q", str(volume))
    run("qemu-img", "convert", "-O", "raw", str(volume), str(raw))
    if partition:
        described = json.loads(run("sfdisk", "--json", str(raw)))["partitiontable"]["partitions"][1]
        whole, raw = raw, folder / "part"
        with whole.open("rb") as file:
            file.seek(described["start"] * 512)
            raw.write_bytes(file.read(described["size"] * 512))
    check = subprocess.run(["e2fsck", "-fn", str(raw)], check=False, capture_output=True, text=True)
    assert check.returncode == 0, check.stdout
    lines = run("debugfs", "-R", f"cat {place}/counter", str(raw)).split()
    raw.unlink()
    assert lines == [str(number + 1) for number in range(len(lines))]
    return len(lines)
