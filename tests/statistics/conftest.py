"""Domains without an operating system, as the tests of domains have them."""

from tests.domain.conftest import connection, lasting, network

__all__ = ["connection", "lasting", "network"]
