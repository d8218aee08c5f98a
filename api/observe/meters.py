"""The figures at ``/metrics``. Labels have few values, all from the code or the settings: no id, no account.

Counters begin at 0 with each start of the service, as Prometheus expects it.
"""

from collections.abc import Iterator

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

_FAST = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 10.0)
_LIBVIRT = (0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 60.0)
_WORK = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0, 3600.0)

# when each series began: as many lines again, which nobody reads
disable_created_metrics()  # type: ignore[no-untyped-call] # it takes nothing

REGISTRY = CollectorRegistry(auto_describe=True)

REQUESTS = Counter(
    "hypervisor_requests",
    "Calls answered, by method of the table (others: unknown; no call at all: none) and the fault's cause.",
    ("method", "fault"),
    registry=REGISTRY,
)
REQUEST_SECONDS = Histogram(
    "hypervisor_request_seconds",
    "Seconds from a call's parsed request to its answer.",
    buckets=_FAST,
    registry=REGISTRY,
)
OPERATIONS_ACCEPTED = Counter(
    "hypervisor_operations_accepted",
    "Operations accepted since the start, by type.",
    ("type",),
    registry=REGISTRY,
)
OPERATIONS_ENDED = Counter(
    "hypervisor_operations_ended",
    "Operations ended since the start, by type and last step: DONE, ERROR or CANCEL.",
    ("type", "step"),
    registry=REGISTRY,
)
OPERATION_SECONDS = Histogram(
    "hypervisor_operation_seconds",
    "Seconds that operations ran until DONE, by type; waiting in the queue is not among them.",
    ("type",),
    buckets=_WORK,
    registry=REGISTRY,
)
STEPS = Histogram(
    "hypervisor_step_seconds",
    "Seconds that the durable steps of jobs took, by name.",
    ("step",),
    buckets=_LIBVIRT,
    registry=REGISTRY,
)
LIBVIRT_SECONDS = Histogram(
    "hypervisor_libvirt_seconds",
    "Seconds that what was asked of libvirt took, by area: connection, domain, network, storage.",
    ("area",),
    buckets=_LIBVIRT,
    registry=REGISTRY,
)
LIBVIRT_ERRORS = Counter(
    "hypervisor_libvirt_errors",
    "What libvirt refused or could not be asked, by area and kind of error.",
    ("area", "kind"),
    registry=REGISTRY,
)

ProcessCollector(registry=REGISTRY)


class Exposition:
    """What a scrape gets: the counters of this module, and what the `gauges` are at that moment."""

    def __init__(self, *gauges: Collector) -> None:
        self._gauges = gauges

    def collect(self) -> Iterator[Metric]:
        """All metrics, as `prometheus_client` asks for them."""
        for collector in (REGISTRY, *self._gauges):
            yield from collector.collect()

    def render(self) -> bytes:
        """The text format of Prometheus, version 0.0.4."""
        return generate_latest(self)
