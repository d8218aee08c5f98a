"""XML-RPC on the wire: bytes to calls, answers to bytes. No input or output happens here."""

from api.wire.markup import MAX_BYTES
from api.wire.request import parse_request
from api.wire.response import render_fault, render_response
from api.wire.values import Value

__all__ = ["MAX_BYTES", "Value", "parse_request", "render_fault", "render_response"]
