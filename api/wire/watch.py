"""What watches the service asks, over HTTP and without a key: `/healthz`, `/readyz`, `/metrics`."""

import ipaddress
import json
from collections.abc import Callable, Mapping, Sequence

from prometheus_client import CONTENT_TYPE_LATEST
from werkzeug.exceptions import MethodNotAllowed, NotFound
from werkzeug.wrappers import Request, Response

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

NAME = "hypervisor"
"""Who answers, as `/healthz` says it."""

# a proxy on this host speaks for callers from elsewhere
_PASSED_ON = ("Forwarded", "X-Forwarded-For", "X-Real-IP", "Via")


class Watch:
    """The pages of a running service.

    `metrics` gives the text that Prometheus reads; `scrapers` are the networks that may have it, beside
    callers on a Unix socket: to others there is no such page, because how much goes on is nobody's business.
    """

    def __init__(
        self,
        faults: Callable[[], Mapping[str, str]],
        metrics: Callable[[], bytes],
        scrapers: Sequence[Network],
    ) -> None:
        self._faults = faults
        self._metrics = metrics
        self._scrapers = scrapers
        self._pages = {"/healthz": _healthz, "/readyz": self._readyz, "/metrics": self._scraped}

    def __call__(self, request: Request) -> Response | None:
        """The answer; None when the path is another one. Raises `MethodNotAllowed`, `NotFound`."""
        page = self._pages.get(request.path)
        if page is None:
            return None
        if request.method not in ("GET", "HEAD"):
            raise MethodNotAllowed(["GET", "HEAD"])
        return page(request)

    def _readyz(self, _request: Request) -> Response:
        wrong = self._faults()
        if wrong:
            return _json({"status": "not ready", "reasons": wrong}, 503)
        return _json({"status": "ready"})

    def _scraped(self, request: Request) -> Response:
        if not self._may_scrape(request):
            raise NotFound
        return Response(self._metrics(), content_type=CONTENT_TYPE_LATEST)

    def _may_scrape(self, request: Request) -> bool:
        if any(name in request.headers for name in _PASSED_ON):
            return False
        if not request.remote_addr:
            return True  # a Unix socket, which only its owner may open
        address = ipaddress.ip_address(request.remote_addr.partition("%")[0])
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
            address = address.ipv4_mapped
        return any(address in network for network in self._scrapers)


def _healthz(_request: Request) -> Response:
    return _json({"status": "ok", "service": NAME})


def _json(content: Mapping[str, object], status: int = 200) -> Response:
    return Response(json.dumps(content) + "\n", status=status, content_type="application/json")
