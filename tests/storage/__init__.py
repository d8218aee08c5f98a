"""Pools and volumes."""
