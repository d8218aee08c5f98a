"""``make faults``: the service, libvirtd and file systems fail in the middle of work."""
