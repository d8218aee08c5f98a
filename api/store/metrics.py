"""What is measured of virtual machines, and the names by which it is asked for."""

DIRECTIONS = {
    "vbd.bytes": ("read", "write"),
    "vbd.requests": ("read", "write"),
    "vcpu.time": ("used",),
    "vif.bytes": ("in", "out"),
    "vif.packets": ("in", "out"),
    "vram.bytes": ("given", "used"),
}
"""The directions of each metric."""

QUERIES = {
    f"{metric}.{wanted}": (metric, directions if wanted == "all" else (wanted,))
    for metric, directions in DIRECTIONS.items()
    for wanted in ("all", *directions)
}
"""``METRIC.DIRECTION`` or ``METRIC.all``: the metric, and the directions that are added up or listed."""
