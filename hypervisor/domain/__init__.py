"""Domains: what libvirt calls virtual machines."""
