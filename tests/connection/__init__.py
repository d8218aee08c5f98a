"""The connection to libvirt."""
