"""Keep this host and its other networks out of reach of private networks (nft(8), libnftables-json(5)).

libvirt rejects what an isolated network would send on, in the IPv4 chains of its own; it lets guests talk to
the host itself, on whatever address they name, and into a network of mode `routed` packets pass one way. One
table of ours, beside libvirt's, drops both, and stays when libvirt puts back its rules.
"""

import json
import subprocess
from typing import Any

from hypervisor.network.errors import NoFirewall

_TABLE = {"family": "inet", "table": "hypervisor"}
_BRIDGES = {**_TABLE, "name": "private"}
# before the tables of others: their accept does not count for ours, nor ours for theirs
_PRIORITY = -10
_ACCEPT, _DROP = {"accept": None}, {"drop": None}
_NFT = "nft"
_RAW = -300  # before the kernel looks where the packet came from


def close(bridge: str) -> None:
    """Let guests on the bridge reach the host by DHCP only, and no other network. May be repeated.

    The host still reaches its guests. Raises `NoFirewall`.
    """
    _run([*_rules(), {"add": {"element": {**_BRIDGES, "elem": [bridge]}}}], f"close {bridge}")


def forget(bridge: str) -> None:
    """Undo `close`; does nothing when the bridge was not closed. Raises `NoFirewall`."""
    element = {"element": {**_BRIDGES, "elem": [bridge]}}
    # added first: what is not there cannot be deleted
    _run([*_rules(), {"add": element}, {"delete": element}], f"open {bridge}")


def _rules() -> list[dict[str, Any]]:
    """The table as it should be, whatever it was."""
    arrives = _match({"meta": {"key": "iifname"}}, "@private")
    leaves = _match({"meta": {"key": "oifname"}}, "@private")
    dhcp = [_match(_field("udp", "sport"), 68), _match(_field("udp", "dport"), 67)]
    broadcast = _match(_field("ip", "daddr"), "255.255.255.255")
    # a guest that renews its lease sends from an address to which this host has no route (rp_filter)
    nobody = {"mangle": {"key": _field("ip", "saddr"), "value": "0.0.0.0"}}  # noqa: S104
    known = _match({"ct": {"key": "state"}}, ["established", "related"], "in")
    return [
        {"add": {"table": {"family": "inet", "name": "hypervisor"}}},
        {"add": {"set": {**_BRIDGES, "type": "ifname"}}},
        *_chain("prerouting", _RAW, [[arrives, broadcast, *dhcp, nobody]]),
        *_chain("input", _PRIORITY, [[arrives, *dhcp, _ACCEPT], [arrives, known, _ACCEPT], [arrives, _DROP]]),
        *_chain(
            "forward",
            _PRIORITY,
            [
                # from one private network to another libvirt rejects; within one, a bridge that asks passes
                [arrives, _match({"meta": {"key": "oifname"}}, "@private", "!="), _DROP],
                [leaves, _match({"meta": {"key": "iifname"}}, "@private", "!="), _DROP],
            ],
        ),
    ]


def _chain(hook: str, priority: int, rules: list[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    chain = {**_TABLE, "name": hook}
    kind = {"type": "filter", "hook": hook, "prio": priority, "policy": "accept"}
    return [
        {"add": {"chain": {**chain, **kind}}},
        {"flush": {"chain": chain}},
        *({"add": {"rule": {**_TABLE, "chain": hook, "expr": rule}}} for rule in rules),
    ]


def _match(left: dict[str, Any], right: Any, operator: str = "==") -> dict[str, Any]:
    return {"match": {"op": operator, "left": left, "right": right}}


def _field(protocol: str, field: str) -> dict[str, Any]:
    return {"payload": {"protocol": protocol, "field": field}}


def _run(commands: list[dict[str, Any]], attempt: str) -> None:
    """All commands in one transaction."""
    try:
        subprocess.run(
            [_NFT, "-j", "-f", "-"],
            input=json.dumps({"nftables": commands}),
            check=True,
            capture_output=True,
            text=True,
        )
    except FileNotFoundError as error:
        raise NoFirewall(f"{attempt}: there is no `nft` here: install nftables") from error
    except subprocess.CalledProcessError as error:
        raise NoFirewall(f"{attempt}: nft: {error.stderr.strip() or error.stdout.strip()}") from error
