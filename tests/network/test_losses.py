"""Tables that are removed from nftables, by whomever."""

import queue
import subprocess
from collections.abc import Iterator

import pytest

from hypervisor.network import Losses, nft

pytestmark = pytest.mark.lab


@pytest.fixture
def told() -> Iterator["queue.SimpleQueue[None]"]:
    """Has an entry for each loss."""
    found: queue.SimpleQueue[None] = queue.SimpleQueue()
    losses = Losses(lambda: found.put(None))
    losses.start()
    yield found
    losses.stop()


def make(*families: str, name: str = nft.TABLE) -> None:
    nft.run("\n".join(f"add table {family} {name}" for family in families), "test")


def delete(*families: str, name: str = nft.TABLE) -> None:
    script = "\n".join(f"delete table {family} {name}" for family in families)
    subprocess.run(["nft", "-f", "-"], input=script, text=True, check=True)


def nothing_more(told: "queue.SimpleQueue[None]") -> None:
    with pytest.raises(queue.Empty):
        told.get(timeout=0.5)


@pytest.fixture
def netdev() -> Iterator[str]:
    """A family in which nobody else has a table of ours."""
    make("netdev")
    yield "netdev"
    make("netdev")
    delete("netdev")


def test_it_is_told(netdev: str, told: "queue.SimpleQueue[None]") -> None:
    for _ in range(3):
        delete(netdev)
        told.get(timeout=10)
        make(netdev)


def test_what_is_removed_at_once_is_told_once(netdev: str, told: "queue.SimpleQueue[None]") -> None:
    make("arp")
    delete(netdev, "arp")
    told.get(timeout=10)
    nothing_more(told)


def test_the_tables_of_others_and_changes_are_not_losses(
    netdev: str, told: "queue.SimpleQueue[None]"
) -> None:
    make(netdev, name="others")
    delete(netdev, name="others")
    nft.run(f"add chain {netdev} {nft.TABLE} one; flush table {netdev} {nft.TABLE}", "test")
    nft.run(f"delete chain {netdev} {nft.TABLE} one", "test")
    delete(netdev)
    told.get(timeout=10)
    nothing_more(told)


def test_it_may_be_told_more_than_it_reads(netdev: str) -> None:
    """The kernel drops what nobody reads: then it may have been ours."""
    found: queue.SimpleQueue[None] = queue.SimpleQueue()
    held: queue.SimpleQueue[None] = queue.SimpleQueue()

    def lost() -> None:
        found.put(None)
        held.get(timeout=60)

    losses = Losses(lost)
    losses.start()
    delete(netdev)
    found.get(timeout=10)
    make(netdev)
    nft.run(f"add set {netdev} {nft.TABLE} many {{ type inet_service; }}", "test")
    elements = ", ".join(map(str, range(1, 20000)))
    nft.run(f"add element {netdev} {nft.TABLE} many {{ {elements} }}", "test")
    held.put(None)
    found.get(timeout=10)
    held.put(None)
    losses.stop()


def test_it_ends_without_having_begun() -> None:
    Losses(lambda: None).stop()
