"""What ``hypervisor doctor`` finds."""
