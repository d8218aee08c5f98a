"""Storage pools and the volumes in them.

Nothing here locks: libvirt lets any number of volumes of a pool be made, filled and removed at once. What it
refuses while a volume is being made is to read the whole pool anew (`pool.refresh`); that is done rarely.
"""
