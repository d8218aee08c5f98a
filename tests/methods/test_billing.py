"""Nothing is billed, and the methods about money say so in the shape that clients expect."""

from tests.methods.world import BOB, UNKNOWN, World


def test_nothing_is_rated(world: World) -> None:
    world.vm()
    assert world.call("hosting.rating.list") == []
    assert world.call("rating.list", {"items_per_page": 5}, key=BOB) == []
    assert world.fault("hosting.rating.list", {"nonsense": 1}).code == 501537


def test_balance(world: World) -> None:
    assert world.call("contact.balance") == {"prepaid": {"amount": "0.00", "currency": "EUR"}}
    assert world.fault("contact.balance", key=UNKNOWN).code == 510150
    assert world.fault("contact.balance", 1).code == 501637
