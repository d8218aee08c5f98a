"""``paas.*``: what clients of virtual machines ask there too. There is no web hosting here."""

from api.methods.call import Call, Struct
from api.methods.snapshotprofile import SnapshotProfileListOptions
from api.methods.table import method


@method("paas.snapshotprofile.list", "array", changes=False)
def list_snapshot_profiles(
    _call: Call,
    opts: SnapshotProfileListOptions | None = None,  # noqa: ARG001 - there is nothing to choose from
) -> list[Struct]:
    """List the snapshot profiles of web hosting instances: none, those of disks are in
    `hosting.snapshotprofile.list`."""
    # clients join the two lists: the disks' profiles in both would make every name ambiguous
    return []
