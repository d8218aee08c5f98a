"""The methods of the API: one module for each namespace, checked parameters in, records out."""
