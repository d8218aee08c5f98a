"""Errors of the networks, in words that tell a person what to do."""

from hypervisor.errors import HypervisorError


class NetworkError(HypervisorError):
    """Something that was asked of a network could not be done."""


class InvalidSpec(NetworkError):
    """The description of a network contradicts itself."""


class NoNetwork(NetworkError):
    """libvirt knows no network of that name."""


class ForeignNetwork(NetworkError):
    """A network of that name exists and is not ours."""


class BridgeInUse(NetworkError):
    """The name of the bridge belongs to something else on the host."""


class NoBridge(NetworkError):
    """The bridge that a network of mode `bridge` stands on does not exist."""


class SubnetInUse(NetworkError):
    """The subnet overlaps one that the host already has."""


class NoAddresses(NetworkError):
    """The network hands out no addresses of that kind."""


class AddressInUse(NetworkError):
    """Another MAC holds the address."""


class InvalidAddress(NetworkError):
    """The address cannot be given to a guest of this network, or the MAC is none."""


class SubnetExhausted(NetworkError):
    """Every address of the subnet is taken."""


class NoShaping(NetworkError):
    """The kernel cannot limit the bandwidth of the interface."""


class NetworkInUse(NetworkError):
    """Something is plugged into the network."""


class NoFirewall(NetworkError):
    """The host cannot be closed to the guests of a private network."""
