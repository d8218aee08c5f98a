"""Differences between the records, libvirt and the files; each with what mends it, where that is safe."""
