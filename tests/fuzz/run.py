"""One target under the fuzzer: ``python -m tests.fuzz.run TARGET``, then arguments of libFuzzer."""

import logging
import shlex
import sys

import atheris


def main() -> None:
    """Run until the time is over, or until an input breaks something."""
    with atheris.instrument_imports(include=["api"]):
        from tests.fuzz import targets

    logging.disable()
    name, *arguments = sys.argv[1:]
    target = {"codec": lambda: targets.codec, "methods": targets.Methods}[name]()
    # libFuzzer starts itself again, by a shell, when it merges
    again = shlex.join([sys.executable, "-m", "tests.fuzz.run", name])
    atheris.Setup([again, *arguments], target)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
