"""Domains: their XML, power, devices, mirrors and migration."""
