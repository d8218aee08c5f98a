"""The methods of the API on a store, without libvirt."""
