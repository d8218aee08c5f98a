"""Storage pools and the volumes in them."""

from threading import Lock

# libvirt refuses work on a pool that has another job running: one at a time, by pool
_locks: dict[str, Lock] = {}
_registry = Lock()


def pool_lock(pool: str) -> Lock:
    """The lock of the pool named `pool`."""
    with _registry:
        return _locks.setdefault(pool, Lock())
