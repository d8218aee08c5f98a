"""Python loads this when a service starts that has this folder in PYTHONPATH: it can be killed at a boundary.

The file named by FAULTS_PLAN, once it is there, says ``KIND N``: SIGKILL ends the whole service at the N-th
boundary of that kind from then on.

- ``before``: a durable step begins.
- ``unrecorded``: a durable step has done its work, and its result is not kept yet.
- ``recorded``: a durable step's result is kept.
- ``committed``: a transaction on the records is committed.

The file is taken away before, so that the next service lives; ``FAULTS_PLAN.hit`` says where it was.
"""

import asyncio
import contextlib
import importlib.abc
import importlib.util
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from types import ModuleType
from typing import Any

_PLAN = os.environ.get("FAULTS_PLAN", "")
_LOCK = threading.Lock()
_counted = 0


def _at(kind: str, name: str) -> None:
    global _counted
    with _LOCK:
        try:
            with open(_PLAN) as file:  # noqa: PTH123 - this runs in every process: nothing more is loaded
                wanted, number = file.read().split()
        except (FileNotFoundError, ValueError):
            _counted = 0
            return
        if kind != wanted:
            return
        _counted += 1
        if _counted < int(number):
            return
        with open(_PLAN + ".hit", "w") as file:  # noqa: PTH123
            file.write(f"{kind} {name}")
        os.unlink(_PLAN)  # noqa: PTH108
        os.killpg(os.getpgrp(), signal.SIGKILL)


def _steps(module: ModuleType) -> None:
    original, reserved = module.DBOS.run_step_async, module.StepReservation.run_async

    async def run_step_async(options: Any, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return await _watched(original, options, function, args, kwargs)

    async def run_async(
        self: Any, options: Any, function: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> Any:
        return await _watched(partial(reserved, self), options, function, args, kwargs)

    module.DBOS.run_step_async = run_step_async
    module.StepReservation.run_async = run_async


async def _watched(
    run: Callable[..., Any], options: Any, function: Callable[..., Any], args: Any, kwargs: Any
) -> Any:
    """Run a step of DBOS, with its boundaries."""
    name = options["name"]

    async def waited(*args: Any, **kwargs: Any) -> Any:
        result = await function(*args, **kwargs)
        _at("unrecorded", name)
        return result

    def done(*args: Any, **kwargs: Any) -> Any:
        result = function(*args, **kwargs)
        _at("unrecorded", name)
        return result

    _at("before", name)
    result = await run(options, waited if asyncio.iscoroutinefunction(function) else done, *args, **kwargs)
    _at("recorded", name)
    return result


def _commits(module: ModuleType) -> None:
    original = module.Store.writing

    @contextlib.contextmanager
    def writing(self: Any) -> Iterator[Any]:
        with original(self) as session:
            yield session
        _at("committed", "")

    module.Store.writing = writing


_SEAMS = {"dbos._dbos": _steps, "api.store.database": _commits}


class _Finder(importlib.abc.MetaPathFinder):
    """Changes a module right after it is loaded."""

    def find_spec(self, fullname: str, _path: Any, _target: Any = None) -> Any:
        if fullname not in _SEAMS:
            return None
        change = _SEAMS.pop(fullname)
        spec = importlib.util.find_spec(fullname)
        assert spec is not None
        loader: Any = spec.loader
        execute = loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            change(module)

        loader.exec_module = exec_module
        return spec


if _PLAN:
    sys.meta_path.insert(0, _Finder())
