"""A process in libcloud's own environment: its Gandi driver, and expressions that are evaluated with it.

Started with the API's port and a key; reads a line of JSON for each request ``{"name", "expression"}``, gives
the value that name if there is one, and answers with a line: ``{"value"}``, or ``{"error"}``.
"""

import json
import sys

from libcloud.common.gandi import GandiConnection
from libcloud.compute.drivers.gandi import GandiNodeDriver


class Connection(GandiConnection):  # type: ignore[misc] # libcloud has no types here
    """To this host; `host` and `port` given to the driver are refused by libcloud 3.9.1."""

    host = "127.0.0.1"

    def __init__(self, *arguments: object, **options: object) -> None:
        super().__init__(*arguments, **options)
        # it has just chosen 80 or 443
        self.port = int(sys.argv[1])


class Driver(GandiNodeDriver):  # type: ignore[misc] # the same
    """The published driver, which looks after an operation more often than every 20 seconds."""

    connectionCls = Connection  # noqa: N815 - libcloud's name

    def _wait_operation(self, id: int, timeout: int = 120, check_interval: int = 1) -> bool:  # noqa: A002
        return bool(super()._wait_operation(id, timeout, check_interval))


def main() -> None:
    """Answer until nothing more is asked."""
    names: dict[str, object] = {"driver": Driver(sys.argv[2], secure=False)}
    for line in sys.stdin:
        request = json.loads(line)
        try:
            value = eval(request["expression"], names)
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        else:
            if request["name"]:
                names[request["name"]] = value
            answer = {"value": value}
        print(json.dumps(answer, default=repr), flush=True)


if __name__ == "__main__":
    main()
