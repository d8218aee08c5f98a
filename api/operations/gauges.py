"""Figures read at a scrape: one question to the records, and what is known without asking anybody."""

from collections import defaultdict
from collections.abc import Iterator
from importlib.metadata import version

from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from sqlalchemy import case, func, literal, select, union_all

from api.operations.engine import Engine
from api.operations.hosts import Hosts
from api.operations.pools import Pools
from api.operations.run import UNFINISHED
from api.store.database import Store
from api.store.models import Claim, Datacenter, Job, Operation, Vm

_MIB = 2**20

_Count = tuple[str, str, int]

# jobs that have not ended hold claims, so their few rows lead to the operations: no table is read in full
_unended = select(Claim.job_id)
_progress = case((Job.started, "running"), else_="waiting")
_JOBS = (
    select(literal("job"), _progress.label("progress"), literal("-"), func.count())
    .where(Job.id.in_(_unended))
    .group_by("progress")
)
_OPERATIONS = (
    select(literal("operation"), Operation.type, Operation.step, func.count())
    .where(Operation.job_id.in_(_unended), Operation.step.in_(UNFINISHED))
    .group_by(Operation.type, Operation.step)
)
_DOMAINS = (
    select(literal("domain"), Datacenter.dc_code, Vm.state, func.count())
    .join(Datacenter, Datacenter.id == Vm.datacenter_id)
    .where(Vm.state != "deleted")
    .group_by(Datacenter.dc_code, Vm.state)
)
_QUESTION = union_all(_JOBS, _OPERATIONS, _DOMAINS)


class Gauges:
    """What is under way and how the hosts are, at the moment of the scrape."""

    def __init__(self, store: Store, hosts: Hosts, engine: Engine, pools: Pools) -> None:
        self._store = store
        self._hosts = hosts
        self._engine = engine
        self._pools = pools

    def collect(self) -> Iterator[Metric]:
        """The gauges, as `prometheus_client` asks for them; raises when the records cannot be read."""
        with self._store.reading() as session:
            counted = session.execute(_QUESTION).all()
        found: defaultdict[str, list[_Count]] = defaultdict(list)
        for kind, one, other, count in counted:
            found[kind].append((one, other, count))
        yield _info()
        yield self._engine_runs()
        yield _jobs(found["job"])
        yield _family(
            "hypervisor_operations", "Operations that have not ended, by type and step.",
            ("type", "step"), found["operation"],
        )  # fmt: skip
        yield _family(
            "hypervisor_domains", "Virtual machines by datacenter and state, as the API shows it.",
            ("datacenter", "state"), found["domain"],
        )  # fmt: skip
        yield self._connected()
        yield self._free()

    def _engine_runs(self) -> GaugeMetricFamily:
        return GaugeMetricFamily(
            "hypervisor_engine_running", "1 while jobs are taken up.", value=float(self._engine.runs)
        )

    def _connected(self) -> GaugeMetricFamily:
        family = GaugeMetricFamily(
            "hypervisor_libvirt_connected",
            "1 while the connection to the datacenter's libvirt is open.",
            labels=("datacenter",),
        )
        for uri, datacenters in self._hosts.places.items():
            open_now = self._hosts.at(uri).silence == 0
            for one in datacenters:
                family.add_metric((self._hosts.code(one),), float(open_now))
        return family

    def _free(self) -> GaugeMetricFamily:
        family = GaugeMetricFamily(
            "hypervisor_pool_free_bytes",
            "Free space in the datacenter's pool, at most a minute old; 0 in one that is not active.",
            labels=("datacenter",),
        )
        for datacenter, room in self._pools.seen.items():
            family.add_metric((self._hosts.code(datacenter),), float(room.free * _MIB))
        return family


def _info() -> GaugeMetricFamily:
    family = GaugeMetricFamily("hypervisor_info", "1, with the version.", labels=("version",))
    family.add_metric((version("hosting-api"),), 1.0)
    return family


def _jobs(rows: list[_Count]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(
        "hypervisor_jobs", "Jobs that wait in the queue, and those that run.", labels=("state",)
    )
    counts = {state: count for state, _, count in rows}
    for state in ("waiting", "running"):
        family.add_metric((state,), float(counts.get(state, 0)))
    return family


def _family(name: str, text: str, labels: tuple[str, str], rows: list[_Count]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=labels)
    for one, other, count in rows:
        family.add_metric((one, other), float(count))
    return family
