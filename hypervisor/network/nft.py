"""The kernel's packet filter, told in its own language (nft(8)), and asked for what its sets hold."""

import json
import subprocess
from collections.abc import Collection, Iterable

from hypervisor.network.errors import NoFirewall

_NFT = "nft"
TABLE = "hypervisor"  # ours in each family


def run(script: str, attempt: str) -> None:
    """All commands of the script, or none. Raises `NoFirewall`, whose text begins with `attempt`."""
    _call(script, attempt, "-f", "-")


def elements(family: str, names: Collection[str], attempt: str) -> dict[str, list[list[str]]]:
    """What is in those sets of our table of that family, each element with its parts. Raises `NoFirewall`."""
    answer = json.loads(_call("", attempt, "-j", "list", "table", family, TABLE))
    found = [entry["set"] for entry in answer["nftables"] if "set" in entry]
    return {
        held["name"]: [
            [str(part) for part in (element["concat"] if isinstance(element, dict) else [element])]
            for element in held.get("elem", [])
        ]
        for held in found
        if held["name"] in names
    }


def holds(family: str, name: str, wanted: Iterable[str]) -> bool:
    """Whether our table of that family is there, and its set `name`, of single values, has those."""
    try:
        held = elements(family, [name], f"set {name}")[name]
    except NoFirewall:
        return False
    return all([one] in held for one in wanted)


def _call(script: str, attempt: str, *arguments: str) -> str:
    try:
        return subprocess.run(
            [_NFT, *arguments], input=script, check=True, capture_output=True, text=True
        ).stdout
    except FileNotFoundError as error:
        raise NoFirewall(f"{attempt}: there is no `nft` here: install nftables") from error
    except subprocess.CalledProcessError as error:
        said = error.stderr.strip() or error.stdout.strip()
        raise NoFirewall(f"{attempt}: nft: {said.partition(chr(10))[0]}") from error
