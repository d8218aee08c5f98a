"""Machines, disks and interfaces that move to another datacenter."""
