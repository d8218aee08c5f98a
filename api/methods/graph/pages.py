"""From a graph's token to its SVG."""

import re
import time
from collections.abc import Callable

from api.methods.graph.links import Graph, Kind, Links, Span
from api.store.database import Store
from api.store.models import Disk, Iface, Vm
from api.store.statistics import Point, Source, Statistics

# XML has no way to carry them, and a disk's name may have them
_UNWRITABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_METRICS = {Kind.VCPU: "vcpu.time", Kind.VDI: "vbd.bytes", Kind.VIF: "vif.bytes"}
_LONGEST_NAME = 60


class Pages:
    """Draws graphs for whoever has a token."""

    def __init__(
        self, store: Store, statistics: Statistics, links: Links, clock: Callable[[], float] = time.time
    ) -> None:
        self._store = store
        self._statistics = statistics
        self._links = links
        self._clock = clock

    def __call__(self, token: str) -> bytes | None:
        """The SVG, None when the token is not good or the VM is gone."""
        graph = self._links.read(token)
        title = None if graph is None else self._title(graph)
        if graph is None or title is None:
            return None
        # pygal takes 13 MiB, and many services draw nothing
        from api.methods.graph.drawing import draw

        end = self._clock()
        start = end - graph.span.seconds
        metric = _METRICS[graph.kind]
        found = self._statistics.read([graph.vm_id], metric, start, end, fine=graph.span is Span.HOUR)
        lines: dict[str, list[Point]] = {
            source.direction: points for source, points in found.items() if _is_of(source, graph)
        }
        return draw(graph.kind, graph.span, title, lines, end)

    def _title(self, graph: Graph) -> str | None:
        with self._store.reading() as session:
            vm = session.get(Vm, graph.vm_id)
            if vm is None or vm.state == "deleted":
                return None
            if graph.kind is Kind.VCPU:
                return f"{vm.hostname}: processor {graph.object_id}"
            if graph.kind is Kind.VIF:
                iface = session.get(Iface, graph.object_id)
                return None if iface is None else f"{vm.hostname}: interface {iface.id}"
            disk = session.get(Disk, graph.object_id)
            return None if disk is None else f"{vm.hostname}: disk {_written(disk.name)}"


def _is_of(source: Source, graph: Graph) -> bool:
    return source.object_id == graph.object_id


def _written(name: str) -> str:
    shown = _UNWRITABLE.sub("\ufffd", name)
    return shown if len(shown) <= _LONGEST_NAME else shown[: _LONGEST_NAME - 1] + "…"


def urls(links: Links, vm: Vm, root: str) -> dict[str, list[str]]:
    """`graph_urls`: for each processor, disk and interface the last hour's graph, then the last day's."""

    def both(kind: Kind, object_id: int) -> list[str]:
        return [links.url(Graph(vm.id, kind, object_id, span), root) for span in Span]

    return {
        "vcpu": [url for number in range(vm.cores) for url in both(Kind.VCPU, number)],
        "vdi": [url for disk in vm.disks for url in both(Kind.VDI, disk.id)],
        "vif": [url for iface in vm.ifaces for url in both(Kind.VIF, iface.id)],
    }
