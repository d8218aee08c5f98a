"""The networks of the datacenters, and the addresses that DHCP hands out on them.

A datacenter has one libvirt network. Its dnsmasq answers a MAC that has a reservation with exactly the
reserved addresses, and nobody else. How the reservations get there was chosen by trying the ways there are:

`virNetworkUpdate` with `<host>`
    libvirt takes down and puts back every firewall rule of the network for each entry: half a second to a
    second for one address, in which guests have no NAT. Its IPv6 entry knows a DUID but no MAC; a DUID is
    the guest's own choice (RFC 8415, section 11: one for all its interfaces, another one after a
    reinstallation), and systemd-networkd, NetworkManager and Windows do not choose the one that follows
    from the MAC.
`dhcp-hostsdir` of dnsmasq
    takes new files by inotify, but a changed or deleted one only with a signal.
a folder in `dhcp-hostsfile`, written as volumes of a libvirt storage pool (chosen)
    One file for a reservation, so that nobody has to rewrite a shared one; its line holds the MAC, which
    dnsmasq matches in DHCPv4 and in DHCPv6, whatever the DUID. libvirt sends dnsmasq the signal that makes
    it read all files again when a DNS record of the network changes, without touching the firewall. All of
    it goes through libvirt's API, so libvirt may be on another host. Some milliseconds for one reservation.

IPv6 is offered in two ways that agree when the address is `eui64` of the MAC, as it should be: by DHCPv6,
and by router advertisements from which a guest forms that same address itself. So a guest without DHCPv6
has it too, and one that comes back with a new DUID while dnsmasq still holds the lease of the old one. The
price: a guest that forms other addresses (privacy extensions) has them beside the assigned one, and a MAC
without reservation can form one too; with `NetworkSpec(slaac=False)` there is only DHCPv6.

An IPv4 address that goes to another MAC at once would be refused while dnsmasq holds the old lease. A file
that keeps a released address for as long as a lease lasts says who had it, and the new entry then names the
old MAC as well: dnsmasq(8) gives up the lease of one MAC of an entry when another of them asks. libvirt's
own list of leases is not asked, because it runs behind dnsmasq. A DHCPv6 lease cannot be taken away like
this; it bars its address to another DUID for ten minutes at most after the guest is gone.

A private network (`Mode.PRIVATE`) is a VLAN: its hosts reach each other and nothing else. Its subnet is
theirs alone: the host has neither address nor route in it, so that two owners may choose the same one, or
one that the host uses elsewhere. Its dnsmasq has a link-local address, the same on each, serves the subnet
as a `shared-network`, and answers no DNS. A guest has no route to that server and renews its lease by
broadcast, in the last eighth of it. libvirt keeps networks apart, and `firewall` keeps the host closed.

On the other networks `isolation` holds each guest to its own MAC and addresses; `firewall` lets them reach
but some ports of the host. `losses` tells when somebody removed either's rules.
"""

from hypervisor.network.addresses import allocate, eui64, normal_mac, random_mac, tap_of
from hypervisor.network.conflicts import is_local_uri
from hypervisor.network.dhcp import assign, leases, release, reservations
from hypervisor.network.guard import share
from hypervisor.network.losses import Losses
from hypervisor.network.networks import Outcome, ensure, remove
from hypervisor.network.reservation import Lease, Reservation
from hypervisor.network.spec import Mode, NetworkSpec
from hypervisor.network.xml import parse, render

__all__ = [
    "Lease",
    "Losses",
    "Mode",
    "NetworkSpec",
    "Outcome",
    "Reservation",
    "allocate",
    "assign",
    "ensure",
    "eui64",
    "is_local_uri",
    "leases",
    "normal_mac",
    "parse",
    "random_mac",
    "release",
    "remove",
    "render",
    "reservations",
    "share",
    "tap_of",
]
