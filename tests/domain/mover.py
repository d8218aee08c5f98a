"""``python -m tests.domain.mover``: a process that moves a domain, to be killed in the middle.

Reads the pickled URIs and the move from standard input, says ``held`` when the copies are in step, and
finalises when told so by a line.
"""

import pickle
import sys

from hypervisor.connection import open_apart
from hypervisor.domain.migration import begin


def main() -> None:
    """Move it."""
    source, target, move = pickle.load(sys.stdin.buffer)
    transfer = begin(open_apart(source), open_apart(target), move)
    print("begun", flush=True)
    while not transfer.progress().ready:
        transfer.wait(0.05)
    print("held", flush=True)
    sys.stdin.buffer.readline()
    transfer.finalise()
    transfer.wait()
    print("moved", flush=True)


if __name__ == "__main__":
    main()
