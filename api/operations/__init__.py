"""What really happens: jobs accepted by the methods, run as durable workflows on the hypervisor."""

import importlib
import pkgutil


def load() -> None:
    """Enter every workflow into the engine's table."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
