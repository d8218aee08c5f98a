"""The real service as a process of its own, on the lab's libvirt."""

import contextlib
import itertools
import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import libvirt

from api.settings import DatacenterSettings, Settings
from api.store.database import Store
from api.store.schema import upgrade
from api.wire.server import open_listener
from hypervisor import network
from tests.service.client import Client
from tests.service.guest import Console
from tests.service.host import Host
from tests.service.inventory import Inventory, outlived_claims, take
from tests.service.waiting import until

ROOT = Path(__file__).parents[2]
IMAGES = Settings().images
_ANSWERS = "The Hosting API answers at"
_numbers = itertools.count(1)

# short enough to wait for, long enough for an obedient guest under emulation
PATIENCE = {
    "HYPERVISOR_PATIENCE__STOP": "8",
    "HYPERVISOR_PATIENCE__STOP_AGAIN": "4",
    "HYPERVISOR_PATIENCE__REBOOT": "8",
}


# of the host, which guests reach
OPEN_PORT = 5001


def datacenters(number: int) -> tuple[DatacenterSettings, DatacenterSettings]:
    """Two datacenters that no other service of the tests uses."""

    def one(index: int, code: str, iso: str, name: str, country: str) -> DatacenterSettings:
        return DatacenterSettings(
            dc_code=code, iso=iso, name=name, country=country, pool=f"e2e{number}-{iso.lower()}",
            network=f"e2e{number}-{iso.lower()}", bridge=f"e2e{number}{iso.lower()}",
            ipv4=f"10.{216 + number // 100}.{number % 100 * 2 + index}.1/24",
            ipv6=f"fd5e:e2e:{number:x}:{index}::1/64", host_ports=(OPEN_PORT,),
        )  # fmt: skip

    return one(0, "FR-SD5", "FR", "Bissy", "France"), one(1, "LU-BI1", "LU", "Bissen", "Luxembourg")


# those that have not been disposed of
LIVING: set["Service"] = set()


class Service:
    """A service with a state folder, a port, datacenters and numbers of its own.

    Its processes may be killed and started again; the port stays open meanwhile, so that calls wait for the
    next start.
    """

    def __init__(
        self, folder: Path, host: Host, settings: Mapping[str, str] | None = None, image: str = "tiny"
    ) -> None:
        self.number = next(_numbers)
        self.state = folder
        self.host = host
        self.datacenters = datacenters(self.number)
        self.first_vm = self.number * 1000
        self._listener = open_listener("127.0.0.1:0")
        self._listener.set_inheritable(True)
        self._console = open_listener("127.0.0.1:0")
        self._console.set_inheritable(True)
        self.console_port = int(self._console.getsockname()[1])
        self.port = int(self._listener.getsockname()[1])
        self.url = f"http://127.0.0.1:{self.port}/xmlrpc/"
        self._environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("HYPERVISOR_")},
            "HYPERVISOR_LAB": os.environ["HYPERVISOR_LAB"],
            "HYPERVISOR_STATE": str(self.state),
            "HYPERVISOR_ACCELERATION": "tcg",
            "HYPERVISOR_CONSOLE_LISTEN": f"fd://{self._console.fileno()}",
            "HYPERVISOR_DATACENTERS": json.dumps([one.model_dump() for one in self.datacenters]),
            **PATIENCE,
            **(settings or {}),
        }
        self._log = self.state / "service.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._clients: list[Client] = []
        self._prepare(image)
        LIVING.add(self)

    def put_on(self, uri: str, addresses: Sequence[str | None] = (None, None)) -> DatacenterSettings:
        """Have the second datacenter on the libvirt at `uri`, from the first start on; the hosts reach each
        other at `addresses`."""
        first, second = (
            one.model_copy(update={"migration_address": address})
            for one, address in zip(self.datacenters, addresses, strict=True)
        )
        self.datacenters = first, second.model_copy(update={"libvirt_uri": uri})
        self._environment["HYPERVISOR_DATACENTERS"] = json.dumps(
            [one.model_dump() for one in self.datacenters]
        )
        return self.datacenters[1]

    def _prepare(self, image: str) -> None:
        built = IMAGES / f"{image}.qcow2"
        assert built.exists(), f"there is no {built}: run `hypervisor image build {image}` before"
        images = self.state / "images"
        images.mkdir(parents=True)
        (images / built.name).symlink_to(built.resolve())
        # domains are named after VM ids, and the services of the tests share one libvirt
        store = Store(f"sqlite:///{self.state / 'store.db'}")
        upgrade(store)
        store.close()
        with contextlib.closing(sqlite3.connect(self.state / "store.db")) as database:
            database.execute("INSERT INTO sqlite_sequence (name, seq) VALUES ('vm', ?)", (self.first_vm,))
            database.commit()

    @property
    def pools(self) -> Path:
        """The folder of its storage pools."""
        return self.state / "pools"

    @property
    def log(self) -> str:
        """What it wrote, over all its starts."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def sockets(self) -> list[int]:
        """The listening sockets that its processes inherit: of the API, and of the consoles."""
        return [self._listener.fileno(), self._console.fileno()]

    def begin(self, command: Sequence[str] = ()) -> "Service":
        """Start it, by another `command` if there is one, without waiting for anything."""
        assert self._process is None, "it runs"
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command or [
                    sys.executable, "-m", "api.cli", "serve",
                    "--listen", f"fd://{self._listener.fileno()}", "--libvirt", "system",
                ],
                cwd=ROOT, env=self._environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                pass_fds=self.sockets(), start_new_session=True,
            )  # fmt: skip
        return self

    def start(self, seconds: float = 60, command: Sequence[str] = ()) -> "Service":
        """Start it and wait until it answers; see `begin`."""
        before = self.log.count(_ANSWERS)
        process = self.begin(command)._process
        assert process is not None

        def answers() -> bool:
            status = process.poll()
            assert status is None, (
                f"the service ended with {status} instead of answering:\n{self.log[-3000:]}"
            )
            return self.log.count(_ANSWERS) > before

        until(answers, seconds, lambda: f"the service answers:\n{self.log[-3000:]}")
        return self

    def kill(self) -> None:
        """End all its processes at once, as a power cut would."""
        assert self._process is not None, "it does not run"
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(30)
        self._process = None

    def terminate(self, seconds: float = 40) -> int:
        """Ask it to end (SIGTERM); its exit status."""
        assert self._process is not None, "it does not run"
        self._process.terminate()
        status = self._process.wait(seconds)
        self._process = None
        return status

    def worker(self) -> int:
        """The process that answers."""
        assert self._process is not None, "it does not run"
        pid = self._process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        assert len(children) == 1, f"the service has the processes {children}"
        return int(children[0])

    def client(self, key: str | None = None) -> Client:
        """A client of the first account, or with another `key`."""
        client = Client(self.url, key or (self.state / "apikey").read_text().strip())
        self._clients.append(client)
        return client

    def cli(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Run a command of an administrator, whatever comes of it."""
        return subprocess.run(
            [sys.executable, "-m", "api.cli", *arguments],
            cwd=ROOT, env=self._environment, check=False, capture_output=True, text=True, timeout=60,
        )  # fmt: skip

    def another_account(self, handle: str = "OTHER-GANDI") -> Client:
        """A client of another account."""
        made = self.cli("apikey", "create", "--account", handle)
        assert made.returncode == 0, made.stderr
        return self.client(made.stdout.strip())

    def domain(self, vm_id: int) -> libvirt.virDomain:
        """libvirt's handle of the VM."""
        return self.host.connection.lookupByName(f"vm-{vm_id}")

    def agent_answers(self, vm_id: int) -> None:
        """Wait for the guest agent, the last thing that starts."""

        def answers() -> bool:
            try:
                self.domain(vm_id).interfaceAddresses(libvirt.VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_AGENT)
            except libvirt.libvirtError:
                return False
            return True

        until(answers, 60, "the guest agent answers")

    def qemu(self, vm_id: int) -> int:
        """The process that the VM runs in."""
        return int(Path(f"/run/libvirt/qemu/vm-{vm_id}.pid").read_text())

    def console(self, vm_id: int) -> Console:
        """The log of the VM's serial console."""
        return Console(self.state / "console" / f"{self.domain(vm_id).UUIDString()}.log")

    def discard(self, client: Client, *vm_ids: int) -> None:
        """Cut the VMs off, as fast as that can be done, and delete them."""
        for one in vm_ids:
            if self.domain(one).isActive():
                self.domain(one).destroy()
        for one in vm_ids:
            client.in_state(one, "halted")
        client.done([client.call("hosting.vm.delete", one) for one in vm_ids])

    def inventory(self) -> Inventory:
        """What there is of it, and of libvirt's domains and networks, once ended jobs hold nothing more."""
        until(lambda: not outlived_claims(self.state), 15, "what ended has released its claims")
        return self._inventory()

    def _inventory(self) -> Inventory:
        return take(self.host.connection, self.datacenters, self.state, self.pools)

    def settled(self, before: Inventory, seconds: float = 15) -> None:
        """Wait until the inventory is as `before`; fails with what differs."""

        def differences() -> str:
            now = self._inventory()
            return "\n".join(
                f"{key}: left {sorted(set(getattr(now, key)) - set(value))}, "
                f"missing {sorted(set(value) - set(getattr(now, key)))}"
                for key, value in vars(before).items()
                if getattr(now, key) != value
            )

        until(lambda: not differences(), seconds, lambda: f"the inventory is as before:\n{differences()}")

    def dispose(self) -> None:
        """End it and remove all it made."""
        LIVING.discard(self)
        for client in self._clients:
            client.close()
        if self._process is not None:
            self.kill()
        self._listener.close()
        self._console.close()
        names = range(self.first_vm, self.first_vm + 1000)
        for domain in self.host.connection.listAllDomains():
            if domain.name() in {f"vm-{one}" for one in names}:
                with contextlib.suppress(libvirt.libvirtError):
                    domain.destroy()
                domain.undefine()
        for datacenter in self.datacenters:
            with contextlib.suppress(libvirt.libvirtError):
                self.host.connection.storagePoolLookupByName(datacenter.pool).destroy()
            with contextlib.suppress(libvirt.libvirtError):
                self.host.connection.storagePoolLookupByName(datacenter.pool).undefine()
            network.remove(self.host.connection, datacenter.network)
