"""The service put together: records, host, engine, methods, wire."""

import contextlib
import fcntl
import logging
import os
import secrets
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from ipaddress import ip_network
from pathlib import Path
from typing import IO

from sqlalchemy import select

from api import methods, operations
from api.methods.audit import Audit
from api.methods.call import Services
from api.methods.dispatch import Dispatcher
from api.methods.graph.links import Links
from api.methods.graph.pages import Pages
from api.observe.meters import Exposition
from api.operations.backend import Backend
from api.operations.console import Consoles
from api.operations.engine import Engine
from api.operations.gauges import Gauges
from api.operations.host import prepare
from api.operations.hosts import Hosts
from api.operations.image import ImageExists, describe, install
from api.operations.jobs import Jobs
from api.operations.latecomers import Latecomers
from api.operations.notes import Keeper
from api.operations.observer import Observer
from api.operations.pools import Pools
from api.operations.readiness import Readiness
from api.operations.rules import Rules
from api.operations.sampler import Sampler
from api.operations.schedule import Schedules
from api.operations.story import heard
from api.settings import Settings
from api.store import revision
from api.store.content import populate
from api.store.database import Store
from api.store.errors import StoreError
from api.store.journal import Journal
from api.store.keys import first_account
from api.store.models import Datacenter
from api.store.statistics import Statistics
from api.wire.application import Application
from api.wire.console import ConsoleServer
from api.wire.console_socket import console_url, open_console
from api.wire.listen import Tcp, parse_listen
from api.wire.watch import Watch
from hypervisor import timing
from hypervisor.acceleration import usable
from hypervisor.domain.statistics import Reader
from hypervisor.errors import HypervisorError

log = logging.getLogger(__name__)


class Service:
    """One running service; `start` gives its WSGI application, `stop` puts its work down."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._open = ExitStack()
        self._engine: Engine | None = None

    def start(self) -> Application:
        """Open everything, take up what was interrupted, and return the application."""
        settings = self._settings
        methods.load()
        operations.load()
        make_folders(settings)
        self._open.enter_context(only_one(settings.state / "lock"))
        timing.listeners.append(heard)
        self._open.callback(timing.listeners.remove, heard)
        store = open_store(settings)
        self._open.callback(store.close)
        hosts = self._open_hosts(store)
        late = self._prepare(store, hosts)
        rules = Rules(hosts)
        self._open.callback(rules.stop)
        rules.start()
        consoles = Consoles(hosts, settings.logs)
        backend = Backend(
            store=store,
            hosts=hosts,
            patience=settings.patience,
            console_logs=settings.logs,
            consoles=consoles,
            accelerated=accelerated(settings),
            max_vcpus=settings.limits.cores,
            migration=settings.migration,
        )
        keeper = Keeper(backend)
        engine = self._engine = Engine(backend, keeper, settings.workflows_url)
        observer = Observer(backend)
        self._open.enter_context(hosts.events.subscribed(observer))
        observer.resync()
        latecomers = Latecomers(hosts, late, partial(self._welcome, store, hosts, wait=0))
        self._open.enter_context(hosts.events.subscribed(latecomers))
        latecomers.start()
        self._open.callback(latecomers.stop)
        # before the engine, so that it ends after that
        keeper.start()
        self._open.callback(keeper.stop)
        engine.start()
        self._open.callback(engine.stop)
        jobs = Jobs(engine.wake, engine.tell)
        pools = Pools(store, hosts)
        pools.start()
        self._open.callback(pools.stop)
        schedules = Schedules(store, jobs, settings.snapshot_profiles, limits=settings.limits.account)
        schedules.start()
        self._open.callback(schedules.stop)
        statistics = Statistics(settings.statistics_file, settings.statistics.every)
        self._open.callback(statistics.close)
        # one for each host: a round waits for its own alone
        for uri, datacenters in hosts.places.items():
            sampler = Sampler(store, statistics, Reader(uri), datacenters)
            sampler.start()
            self._open.callback(sampler.stop)
        links = Links(
            graph_secret(settings.state / "graphs.key"),
            settings.statistics.url_lifetime,
            settings.public_url,
            fallback=own_url(settings.listen, settings.scheme),
        )
        listening, port = open_console(settings.console_listen)
        services = Services(
            store=store,
            jobs=jobs,
            limits=settings.limits,
            console_url=console_url(settings.console_host, port),
            snapshot_profiles=settings.snapshot_profiles,
            statistics=statistics,
            links=links,
            room=pools,
            libvirt_uri=settings.libvirt_uri,
            audit=self._open_audit(),
        )
        if listening:
            server = ConsoleServer(listening, settings.host_key, services, consoles)
            server.start()
            self._open.callback(server.stop)
        watch = Watch(
            Readiness(store, hosts, engine),
            Exposition(Gauges(store, hosts, engine, pools)).render,
            [ip_network(one) for one in settings.metrics_from],
        )
        return Application(Dispatcher(services), Pages(store, statistics, links), watch)

    def is_alive(self) -> bool:
        """Whether work is taken up: what does not mend itself, but by a new start."""
        return self._engine is None or self._engine.runs

    def _open_audit(self) -> Audit:
        file = self._settings.audit_file
        if file is None:
            return Audit()
        try:
            journal = Journal(file)
        except OSError as error:
            reason = error.strerror
            raise OSError(f"the audit log {file} cannot be opened ({reason}): see audit_log") from None
        self._open.callback(journal.close)
        return Audit(journal)

    def _open_hosts(self, store: Store) -> Hosts:
        with store.reading() as session:
            datacenters = session.scalars(select(Datacenter).order_by(Datacenter.id)).all()
        hosts = Hosts(self._settings.libvirt_uri, datacenters, partial(prepare, store, self._settings))
        hosts.start()
        self._open.callback(hosts.stop)
        for uri in hosts.places:
            # all of them begin to connect
            hosts.at(uri)
        return hosts

    def _prepare(self, store: Store, hosts: Hosts) -> list[int]:
        """Have every datacenter ready for use; returns the ids of those on other hosts that are not."""
        late = []
        for uri, datacenters in hosts.places.items():
            for one in datacenters:
                try:
                    self._welcome(store, hosts, one, wait=30 if uri == hosts.own else 10)
                except HypervisorError as error:
                    if uri == hosts.own:
                        raise
                    log.warning("%s is left out for now: %s", hosts.code(one), error)
                    late.append(one)
        return late

    def _welcome(self, store: Store, hosts: Hosts, datacenter_id: int, wait: float) -> None:
        """Have the datacenter ready for use: its pool and networks, and the images in it."""
        hosts.handle(datacenter_id, wait)
        if hosts.code(datacenter_id) not in {one.dc_code for one in self._settings.datacenters}:
            return  # it is closed
        for name, labels in self._settings.labels.items():
            file = self._settings.images / f"{name}.qcow2"
            if file.exists():
                with contextlib.suppress(ImageExists):
                    install(store, hosts, file, labels, self._settings.images, only=datacenter_id)
        describe(store, hosts, datacenter_id)

    def stop(self) -> None:
        """Close everything, in the reverse order."""
        self._open.close()


def make_folders(settings: Settings) -> None:
    """Make the state folder and those in it."""
    for folder in (settings.state, settings.pools, settings.logs, settings.images):
        folder.mkdir(parents=True, exist_ok=True)
    # QEMU's user passes through to the volumes, and reads nothing on the way
    settings.state.chmod(0o711)
    settings.pools.chmod(0o711)


def open_store(settings: Settings) -> Store:
    """The records, their schema up to date, with an account and the settings' datacenters in them.

    The API key of a first start is left in the file ``apikey`` in the state folder, for its owner only.
    """
    store = Store(settings.database_url)
    if revision.current(store) != revision.HEAD:
        from api.store.schema import upgrade

        for copy in upgrade(store, [settings.workflows_file]):
            log.info("the records' schema was brought up to date; what was there before is in %s", copy)
    with store.writing() as session:
        populate(session, settings)
        key = first_account(session, settings)
        if key is not None:
            write_secret(settings.state / "apikey", key + "\n")
    return store


def write_secret(file: Path, text: str) -> None:
    """Write `file` such that nobody else can ever read it."""
    new = file.with_name(file.name + ".new")
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as written:
        written.write(text)
    new.rename(file)


def graph_secret(file: Path) -> bytes:
    """The secret that the URLs of graphs are made with; a first start makes it."""
    if not file.exists():
        write_secret(file, secrets.token_hex(32) + "\n")
    return bytes.fromhex(file.read_text())


def own_url(address: str, scheme: str = "http") -> str:
    """The URL of the service for a caller who named no host."""
    listen = parse_listen(address.split()[-1])
    return f"{scheme}://{listen if isinstance(listen, Tcp) else 'localhost'}"


def accelerated(settings: Settings) -> bool:
    """Whether guests run under KVM: as the settings say, or as was seen on this host."""
    if settings.acceleration == "auto":
        return usable(settings.images / "tiny.qcow2", settings.state / "acceleration.json")
    return settings.acceleration == "kvm"


class ServiceRuns(StoreError):
    """The service uses what is to be changed."""


@contextlib.contextmanager
def sole(settings: Settings, *, held: bool = True) -> Iterator[None]:
    """Keep the service from starting for the length of the block, unless not `held`; raises `ServiceRuns`
    when it runs."""
    if not held:
        yield
        return
    with (settings.state / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ServiceRuns(f"a service uses {settings.state}: stop it first") from None
        yield


def only_one(file: Path) -> IO[str]:
    """Hold the state folder's lock; waits for a service that is just ending."""
    lock = file.open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        log.warning("another service uses %s: waiting for its end", file.parent)
        fcntl.flock(lock, fcntl.LOCK_EX)
    return lock
