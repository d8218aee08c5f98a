"""The methods of the API: one module for each namespace, checked parameters in, records out."""

import importlib
import pkgutil


def load() -> None:
    """Enter the methods of every namespace into the table."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
