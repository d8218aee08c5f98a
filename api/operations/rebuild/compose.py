"""The records, from what was found."""

from dataclasses import dataclass, field
from typing import Any, TypeVar

from api.operations import blueprint, image
from api.operations import vlan as vlans
from api.operations.disk import named
from api.operations.iface import labelled
from api.operations.rebuild import sources
from api.operations.rebuild.sources import Sources, Values
from api.operations.survey import Place, Survey
from api.store.models import Account, Disk, Iface, Image, Ip, Record, SshKey, Vlan, Vm, VmTrigger
from api.store.plain import restored
from hypervisor.domain.power import State
from hypervisor.domain.spec import DiskSpec, DomainSpec, InterfaceSpec
from hypervisor.domain.survey import Seen
from hypervisor.network import Reservation

R = TypeVar("R", bound=Record)

_BANDWIDTH = 102400.0
_STATES = {State.RUNNING: "running", State.PAUSED: "paused"}


@dataclass
class Records:
    """What is to be written, by id in each table, and what could not be known."""

    accounts: dict[int, Account] = field(default_factory=dict)
    keys: dict[int, SshKey] = field(default_factory=dict)
    vlans: dict[int, Vlan] = field(default_factory=dict)
    vms: dict[int, Vm] = field(default_factory=dict)
    triggers: dict[int, VmTrigger] = field(default_factory=dict)
    disks: dict[int, Disk] = field(default_factory=dict)
    images: dict[int, Image] = field(default_factory=dict)
    ifaces: dict[int, Iface] = field(default_factory=dict)
    ips: dict[int, Ip] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)

    @property
    def in_order(self) -> list[dict[int, Any]]:
        """The tables, each after those that it refers to."""
        return [
            self.accounts, self.keys, self.vlans, self.vms, self.triggers, self.disks, self.images,
            self.ifaces, self.ips,
        ]  # fmt: skip


class Composer:
    """Makes the records of everything that is ours. The datacenters have their ids."""

    def __init__(self, survey: Survey, known: Sources, first_account: str) -> None:
        self._places = list(survey.places.values())
        self._known = known
        self._first_account = first_account
        self.records = Records()

    def compose(self) -> Records:
        """All of them."""
        for place in self._places:
            self._images(place)
            self._vlans(place)
        for place in self._places:
            for seen in place.domains.values():
                self._vm(place, seen)
        for place in self._places:
            self._free_disks(place)
            self._free_ifaces(place)
        for number in self.records.accounts:
            for key in self._known.keys.get(number, []):
                self.records.keys[key["id"]] = restored(SshKey, key)
        return self.records

    def _unknown(self, text: str) -> None:
        self.records.unknown.append(text)

    # accounts

    def _account(self, number: int) -> int:
        """Make sure of the account with this id."""
        if number not in self.records.accounts:
            values = self._known.accounts.get(number)
            if values is None:
                handles = {one["handle"] for one in self._known.accounts.values()}
                first = number == 1 and self._first_account not in handles
                handle = self._first_account if first else f"ACCOUNT-{number}"
                self._unknown(f"the handle of account {number} is not known: it is now {handle}")
                values = {"handle": handle}
            self.records.accounts[number] = restored(Account, values, id=number)
        return number

    def _account_of(self, handle: str) -> int:
        known = {one["handle"]: one["id"] for one in self._known.accounts.values()}
        known |= {one.handle: one.id for one in self.records.accounts.values()}
        number = known.get(handle)
        if number is None:
            number = 1 if handle == self._first_account else self._known.ids.new("account")
            self._known.accounts[number] = {"id": number, "handle": handle}
        return self._account(int(number))

    # images

    def _images(self, place: Place) -> None:
        here = place.datacenter
        for name in sorted(one for one in place.volumes if image.VOLUME.fullmatch(one)):
            document = self._known.images.get((here.dc_code, name))
            if document is None:
                label = name.removesuffix(".qcow2")
                self._unknown(
                    f"the labels of the image {name} in {here.dc_code} are not known: it has its name"
                )
                values: Values = {
                    "id": self._known.ids.new("disk"),
                    "name": label,
                    "label": label,
                    "size": place.volumes[name].size,
                    "visibility": "all",
                    "kernel_version": "raw",
                }
                document = {"disk": values, "images": [{"id": self._known.ids.new("image"), "label": label}]}
            disk = restored(
                Disk, document["disk"], account_id=None, datacenter_id=here.id, volume=name, state="created"
            )
            self.records.disks[disk.id] = disk
            for one in document["images"]:
                self.records.images[one["id"]] = restored(Image, one, datacenter_id=here.id, disk_id=disk.id)

    # networks

    def _vlans(self, place: Place) -> None:
        for name, private in place.networks.items():
            values, spec = vlans.recorded(private.spec), private.spec
            if "id" not in values or "account_id" not in values or spec.ipv4 is None:
                self._unknown(f"the network {name} does not say which vlan it is: it is left alone")
                continue
            self.records.vlans[values["id"]] = restored(
                Vlan,
                values,
                account_id=self._account(values["account_id"]),
                datacenter_id=place.datacenter.id,
                network=name,
                subnet=str(spec.ipv4.network),
                gateway=None if spec.router is None else str(spec.router),
                state="created",
            )

    # machines

    def _vm(self, place: Place, seen: Seen) -> None:
        spec, number = seen.defined, sources.vm_id(seen)
        if number is None or number in self.records.vms:
            self._unknown(f"the domain {spec.name} ({spec.uuid}) is left alone: vm {number} is another")
            return
        document = self._known.notes.get(spec.uuid, {})
        values = document.get("vm", {})
        seed = sources.seed(place, seen)
        version = 1 if seed is None else sources.version(seed)
        if not values:
            self._unknown(f"vm#{number} has no notes: its description, dates and triggers are not known")
        if seed is None:
            self._unknown(f"vm#{number} has no seed: what its guest is told at its first boot is not known")
        elif values.get("seed_version", version) != version:
            self._unknown(f"what the guest of vm#{number} was to be told at its next start is not known")
        account = values.get("account_id")
        self.records.vms[number] = restored(
            Vm,
            values,
            id=number,
            account_id=self._account(account) if account else self._account_of(spec.labels["account"]),
            datacenter_id=place.datacenter.id,
            uuid=spec.uuid,
            hostname=values.get("hostname") or (seed.hostname if seed else spec.name),
            state=_STATES.get(seen.state, "halted"),
            cores=spec.vcpus,
            memory=spec.memory,
            vm_max_memory=spec.max_memory,
            seed=dict(sources.told(seed)),
            seed_version=version,
        )
        for trigger in document.get("triggers", []):
            self.records.triggers[trigger["id"]] = restored(VmTrigger, trigger, vm_id=number)
        self._devices(place, self.records.vms[number], spec, leaving=False)
        if seen.live is not None:
            # what the guest has not let go of yet
            self._devices(place, self.records.vms[number], seen.live, leaving=True)

    def _devices(self, place: Place, vm: Vm, spec: DomainSpec, *, leaving: bool) -> None:
        for disk in spec.disks:
            number = blueprint.disk_of(disk.alias)
            if number is not None and number not in self.records.disks:
                self._attached(place, vm, number, disk, leaving=leaving)
        for order, interface in enumerate(spec.interfaces):
            number = blueprint.iface_of(interface.alias)
            if number is not None and number not in self.records.ifaces:
                self._plugged(place, vm, number, interface, order, leaving=leaving)

    def _attached(self, place: Place, vm: Vm, number: int, disk: DiskSpec, *, leaving: bool) -> None:
        if disk.path.parent != place.folder or disk.path.name not in place.volumes:
            self._unknown(f"disk#{number} on vm#{vm.id} has no record: its volume {disk.path} is missing")
            return
        self.records.disks[number] = self._disk(
            place,
            number,
            disk.path.name,
            account_id=vm.account_id,
            vm_id=vm.id,
            position=ord(disk.target[2:3] or "a") - ord("a"),
            access="read" if disk.readonly else "read/write",
            leaving=leaving,
        )

    def _disk(self, place: Place, number: int, name: str, **others: Any) -> Disk:
        values, told, found = self._known.disks.get(number, {}), named(name), place.volumes[name]
        kind = "snapshot" if told is not None and told.is_snapshot else "data"
        name_now = f"{'disk' if kind == 'data' else kind}_{number}"
        guessed: Values = {"name": name_now, "type": kind}
        source_id = None if told is None else told.source_id
        if source_id is None and found.base is not None:
            source_id = self._image_at(place, found.base.name)
        source = None if source_id is None else self.records.disks.get(source_id)
        guessed["source_id"] = source_id
        if source is not None:
            guessed |= {"label": source.label, "kernel_version": source.kernel_version}
        if not values:
            self._unknown(f"the name of disk#{number} is not known: it is now {name_now}")
        return restored(
            Disk,
            guessed | values,
            id=number,
            datacenter_id=place.datacenter.id,
            volume=name,
            size=found.size,
            state="created",
            **others,
        )

    def _image_at(self, place: Place, name: str) -> int | None:
        here = (one for one in self.records.disks.values() if one.datacenter_id == place.datacenter.id)
        return next((one.id for one in here if one.account_id is None and one.volume == name), None)

    def _free_disks(self, place: Place) -> None:
        recorded = {
            one.volume for one in self.records.disks.values() if one.datacenter_id == place.datacenter.id
        }
        names = [(told, name) for name in place.volumes.keys() - recorded if (told := named(name))]
        # a source comes before what was made of it
        for told, name in sorted(names, key=lambda one: (one[0].id, one[1])):
            if told.id in self.records.disks:
                self._unknown(f"the volume {place.folder / name} is left alone: disk#{told.id} has another")
                continue
            account = told.account_id or self._known.disks.get(told.id, {}).get("account_id")
            if account is None:
                account = min(self.records.accounts, default=1)
                self._unknown(f"the owner of disk#{told.id} is not known: it is now account {account}")
            self.records.disks[told.id] = self._disk(
                place,
                told.id,
                name,
                account_id=self._account(account),
                vm_id=None,
                position=None,
                access="read/write",
                leaving=False,
            )

    # interfaces

    def _plugged(
        self, place: Place, vm: Vm, number: int, card: InterfaceSpec, order: int, *, leaving: bool
    ) -> None:
        values = self._known.ifaces.get(number, {})
        if not values:
            self._unknown(f"the bandwidth of iface#{number} is not known: it is now {_BANDWIDTH:.0f} kbit/s")
        self._iface(
            place,
            {"num": order, "bandwidth": _BANDWIDTH} | values,
            card.network,
            id=number,
            account_id=vm.account_id,
            mac=card.mac,
            vm_id=vm.id,
            state="used",
            leaving=leaving,
        )

    def _free_ifaces(self, place: Place) -> None:
        listed = [(place.datacenter.network, one) for one in place.reservations or []]
        listed += [(name, one) for name, private in place.networks.items() for one in private.reservations]
        taken = {iface.mac for iface in self.records.ifaces.values()}
        for network, reservation in listed:
            if reservation.mac in taken:
                continue
            number, account = labelled(reservation) or (None, None)
            if number is None or account is None or number in self.records.ifaces:
                self._unknown(f"the reservation of {reservation.mac} in {network} does not say whose it is")
                continue
            self._unknown(f"the bandwidth of iface#{number} is not known: it is now {_BANDWIDTH:.0f} kbit/s")
            self._iface(
                place,
                {"bandwidth": _BANDWIDTH},
                network,
                id=number,
                account_id=self._account(account),
                mac=reservation.mac,
                state="free",
            )

    def _iface(self, place: Place, values: Values, network: str, **others: Any) -> None:
        vlan = next((one for one in self.records.vlans.values() if one.network == network), None)
        if vlan is None and network != place.datacenter.network:
            self._unknown(f"the network {network} of iface#{others['id']} is not known: it has no record")
            return
        vlan_id = None if vlan is None else vlan.id
        iface = restored(Iface, values, datacenter_id=place.datacenter.id, vlan_id=vlan_id, **others)
        self.records.ifaces[iface.id] = iface
        told = [
            one for one in self._known.ips.get(iface.id, []) if one["datacenter_id"] == place.datacenter.id
        ]
        for one in told or self._reserved(place, network, iface.mac):
            ip = restored(
                Ip,
                one,
                account_id=iface.account_id,
                datacenter_id=place.datacenter.id,
                iface_id=iface.id,
                vlan_id=vlan_id,
                state="created",
            )
            self.records.ips[ip.id] = ip

    def _reserved(self, place: Place, network: str, mac: str) -> list[Values]:
        private = place.networks.get(network)
        listed: list[Reservation] = (place.reservations or []) if private is None else private.reservations
        addresses = [
            address for one in listed if one.mac == mac for address in (one.ipv4, one.ipv6) if address
        ]
        return [
            {"id": self._known.ids.new("ip"), "ip": str(address), "version": address.version, "num": number}
            for number, address in enumerate(addresses)
        ]
