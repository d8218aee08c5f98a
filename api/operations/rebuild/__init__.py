"""The records made anew from what libvirt and the pools have, when their database is lost.

What runs, what is attached and where comes from the domains' definitions, sizes and snapshots from the
volumes, addresses from the reservations; names and the rest from the notes that domains, networks and images
carry.
"""
