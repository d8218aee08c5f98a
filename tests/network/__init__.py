"""Networks, addresses, bandwidth and what guests are kept from."""
