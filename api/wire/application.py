"""The WSGI application: calls at `/xmlrpc/` and `/xmlrpc/2.0/`, graphs, what watches the service asks, a page
that says so at `/`."""

import gzip
import logging
import re
import secrets
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from werkzeug.exceptions import (
    BadRequest,
    HTTPException,
    InternalServerError,
    MethodNotAllowed,
    NotFound,
    RequestEntityTooLarge,
    RequestTimeout,
    UnsupportedMediaType,
)
from werkzeug.wrappers import Request, Response
from werkzeug.wsgi import get_input_stream

from api.methods.faults import INTERNAL, Cause, Fault, internal_error
from api.methods.table import lookup
from api.observe import context, meters
from api.wire.codec import MAX_BYTES, parse_request, render_fault, render_response
from api.wire.incidents import describe
from api.wire.values import Dispatcher, Graphs, Value
from api.wire.watch import Watch

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

PATHS = ("/xmlrpc", "/xmlrpc/", "/xmlrpc/2.0", "/xmlrpc/2.0/")
"""Where calls are taken: today's path and that of the 2.0 era; a redirect would lose the body of a POST."""

GRAPH = re.compile(r"/graphs/([A-Za-z0-9_-]{1,100})\.svg")
"""Where graphs are."""

COMPRESS_FROM = 1024
"""Shortest answer worth compressing, in bytes."""

_PAGE = """This is a Hosting API server: XML-RPC, for virtual machines.

Calls are POST requests to {root}xmlrpc/ with an API key as the first argument of each method.
system.listMethods, which takes no key, lists the methods.
"""
_HEADERS = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}

# a picture and nothing else, wherever it is opened
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; sandbox"

_CAUSES = {cause.value: cause.name.lower() for cause in Cause}

_log = logging.getLogger(__name__)


class Application:
    """Turns HTTP requests into calls of a `Dispatcher`, and what it answers or raises into HTTP responses.

    Answers and faults alike have status 200: the known clients fail on any other. Other statuses (RFC 9110)
    are for requests that are no calls: 400, 404, 405, 408 (body too slow), 413, 415 (compressed body).
    """

    def __init__(
        self,
        dispatch: Dispatcher,
        graphs: Graphs | None = None,
        watch: Watch | None = None,
        *,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        """Requests with more than `max_bytes` bytes of body are refused with status 413."""
        self._dispatch = dispatch
        self._graphs = graphs
        self._watch = watch
        self._max_bytes = max_bytes

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        """One request (PEP 3333)."""
        request = Request(environ, populate_request=False)
        try:
            with context.bound(request=secrets.token_hex(4)):
                response = self._respond(request)
        except HTTPException as refusal:
            response = _plain(f"{refusal.code} {refusal.name}\n", refusal.code or 500)
            if isinstance(refusal, MethodNotAllowed) and refusal.valid_methods:
                response.headers["Allow"] = ", ".join(refusal.valid_methods)
        response.headers.extend(_HEADERS)
        return response(environ, start_response)

    def _respond(self, request: Request) -> Response:
        if request.path == "/":
            if request.method not in ("GET", "HEAD"):
                raise MethodNotAllowed(["GET", "HEAD"])
            return _plain(_PAGE.format(root=request.host_url))
        if self._graphs is not None and (graph := GRAPH.fullmatch(request.path)):
            if request.method not in ("GET", "HEAD"):
                raise MethodNotAllowed(["GET", "HEAD"])
            return _graph(self._graphs, graph[1])
        if self._watch is not None and (answer := self._watch(request)) is not None:
            return answer
        if request.path not in PATHS:
            raise NotFound
        if request.method != "POST":
            raise MethodNotAllowed(["POST"])
        body = _read(request, self._max_bytes)
        root = request.host_url if request.host else ""
        return _xml(self._answer(body, request.remote_addr or "unix", root), request)

    def _answer(self, body: bytes, remote_address: str, root: str) -> bytes:
        started = time.perf_counter()
        method, arguments, code = "-", list[Value](), 0
        try:
            method, arguments = parse_request(body, max_bytes=self._max_bytes)
            answer = render_response(self._dispatch(method, arguments, remote_address, root))
        except Fault as fault:
            code, answer = fault.code, render_fault(fault)
        except Exception as error:
            code, answer = INTERNAL, render_fault(internal_error())
            _report(method, arguments, error)
        duration = time.perf_counter() - started
        _count(method, code, duration)
        _log.info("%s %s fault=%d %.1f ms", remote_address, method, code, duration * 1000)
        return answer


def _count(method: str, code: int, duration: float) -> None:
    # a caller chooses names: only those of the table become labels
    known = lookup(method)
    name = "none" if method == "-" else "unknown" if known is None else known.name
    meters.REQUESTS.labels(name, _cause(code)).inc()
    meters.REQUEST_SECONDS.observe(duration)


def _cause(code: int) -> str:
    if code in (0, 1):
        return "unknown method" if code else "none"
    if code < 500000:
        return "internal"
    return _CAUSES.get(code % 100, "other")


def _report(method: str, arguments: Sequence[Value], error: Exception) -> None:
    incident = secrets.token_hex(4)
    _log.error("incident %s in %s\n%s", incident, method, describe(error, arguments))


def _graph(graphs: Graphs, token: str) -> Response:
    try:
        drawn = graphs(token)
    except Exception as error:
        _report("a graph", [token], error)
        raise InternalServerError from None
    if drawn is None:
        raise NotFound
    return Response(drawn, content_type="image/svg+xml", headers={"Content-Security-Policy": _POLICY})


def _read(request: Request, max_bytes: int) -> bytes:
    """The body; raises 413 before reading when it is announced as too long, or when a chunked one gets so."""
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise UnsupportedMediaType
    length = request.content_length
    if length is not None and length > max_bytes:
        raise RequestEntityTooLarge
    # not werkzeug's own limit: it cuts a chunked body at the limit without a word
    stream = get_input_stream(request.environ)
    body = bytearray()
    try:
        while len(body) <= max_bytes and (piece := stream.read(max_bytes + 1 - len(body))):
            body += piece
    except TimeoutError:
        raise RequestTimeout from None
    except OSError:
        raise BadRequest from None
    if len(body) > max_bytes:
        raise RequestEntityTooLarge
    if length is not None and len(body) < length:
        raise BadRequest
    return bytes(body)


def _xml(answer: bytes, request: Request) -> Response:
    response = Response(content_type="text/xml; charset=utf-8")
    if len(answer) >= COMPRESS_FROM:
        response.headers["Vary"] = "Accept-Encoding"
        if request.accept_encodings.quality("gzip") > 0:
            # the fastest level: it already shrinks these answers to a tenth, and the link is usually local
            answer = gzip.compress(answer, compresslevel=1, mtime=0)
            response.headers["Content-Encoding"] = "gzip"
    response.data = answer
    return response


def _plain(text: str, status: int = 200) -> Response:
    return Response(text, status=status, content_type="text/plain; charset=utf-8")
