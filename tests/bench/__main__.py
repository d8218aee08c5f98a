"""Measure and print the table."""

from rich.console import Console
from rich.table import Table

from hypervisor.connection import Connection
from tests.bench import creation, idle, migration, requests
from tests.bench.service import running

_CALLS = ("hosting.vm.info", "operation.info", "hosting.iface.update")


def main() -> None:
    """Run every measurement against one service."""
    table = Table("figure", "measured", "baseline, same run", "ratio", "target")
    with running() as (client, process, state):
        connection = Connection("qemu:///system")
        connection.start()
        created = creation.measure(client, connection)
        ours = created["service"]
        for way, target in (("libvirt", "<= 1.25"), ("virt-install", "< 0.8")):
            table.add_row(
                f"create_from to running, against {way}",
                f"{ours * 1000:.0f} ms",
                f"{created[way] * 1000:.0f} ms",
                f"{ours / created[way]:.2f}",
                target,
            )
        # what came before was asked while machines were made and cut off
        begin = (state / "log").stat().st_size
        over_loopback = requests.measure(client)
        for where, times, targets in (
            ("in the server", requests.served(state / "log", begin), ("p95 3 ms", "p95 3 ms", "p95 10 ms")),
            ("over loopback", over_loopback, ("", "", "")),
        ):
            floor = times["version.info"]
            for method, target in zip(_CALLS, targets, strict=True):
                table.add_row(
                    f"{method} {where}",
                    _spread(times[method]),
                    f"version.info {_spread(floor)}",
                    f"{requests.percentile(times[method], 50) / requests.percentile(floor, 50):.1f}",
                    target,
                )
        moved = migration.measure(client, connection, state)
        table.add_row(
            "copy and switch of a migration, against virsh blockcopy --wait --pivot",
            f"{moved['service']:.2f} s",
            f"{moved['virsh']:.2f} s",
            f"{moved['service'] / moved['virsh']:.2f}",
            "<= 1.1",
        )
        share, memory = idle.measure(process.pid)
        table.add_row("idle, of one core", f"{share:.2f} %", "", "", "< 2 %")
        table.add_row("memory", f"{memory:.0f} MiB", "", "", "< 150 MiB")
        connection.stop()
    Console(width=130).print(table)


def _spread(times: list[float]) -> str:
    return (
        f"p50 {requests.percentile(times, 50) * 1000:.1f}, p95 {requests.percentile(times, 95) * 1000:.1f} ms"
    )


if __name__ == "__main__":
    main()
