"""The room in the storage pools, by libvirt's own test driver: it has one pool, and nothing of the host's."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from api.operations.hosts import Hosts
from api.operations.pools import Pools
from api.store.models import Datacenter
from hypervisor.storage import pool
from hypervisor.storage.pool import Room
from tests.methods.world import World
from tests.service.waiting import until

NONE = Room(active=False, free=0)
POOL = "default-pool"


@contextmanager
def looking(world: World, uri: str) -> Iterator[tuple[Pools, Hosts, Datacenter]]:
    """The view of the pools at the libvirt of `uri`; the first datacenter's is the one that is there."""
    world.change(world.get(Datacenter, 1), pool=POOL)
    here, there = world.get(Datacenter, 1), world.get(Datacenter, 2)
    hosts = Hosts(uri, [here, there])
    hosts.start()
    pools = Pools(world.store, hosts)
    try:
        yield pools, hosts, here
    finally:
        hosts.stop()


def becomes(pools: Pools, here: Datacenter, wanted: bool) -> Room:
    """The room of the pool once it is seen to be active, or not to be; whoever asks makes it look again."""
    until(lambda: pools(here).active is wanted, 10, "it is seen to change")
    return pools(here)


def test_each_question_makes_it_look_anew(world: World) -> None:
    with looking(world, "test:///default") as (pools, hosts, here):
        handle = hosts.handle(here.id, wait=10)
        there = handle.storagePoolLookupByName(POOL)
        # nothing was seen before it began
        assert pools(here) == NONE
        pools.start()
        try:
            seen = becomes(pools, here, wanted=True)
            assert seen == pool.room(handle, POOL)
            assert seen.free > 0
            there.destroy()
            assert becomes(pools, here, wanted=False) == NONE
            there.create(0)
            assert becomes(pools, here, wanted=True) == seen
            # of a datacenter whose pool libvirt does not know, and of one that came after the start
            others = [world.get(Datacenter, number) for number in (2, 3)]
            assert [pools(one) for one in others] == [NONE, NONE]
        finally:
            pools.stop()


def test_the_end_does_not_wait_for_the_next_look(world: World) -> None:
    with looking(world, "test:///default") as (pools, hosts, here):
        hosts.handle(here.id, wait=10)
        pools.start()
        becomes(pools, here, wanted=True)
        begun = time.monotonic()
        pools.stop()
        assert time.monotonic() - begun < 2


def test_without_libvirt_there_is_no_room_and_no_wait(world: World) -> None:
    with looking(world, "qemu+unix:///system?socket=/nonexistent/socket") as (pools, _, here):
        pools.start()
        try:
            begun = time.monotonic()
            assert pools(here) == NONE
            assert time.monotonic() - begun < 1
        finally:
            pools.stop()
