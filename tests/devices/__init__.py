"""Disks, interfaces, snapshots and changes of real machines."""
