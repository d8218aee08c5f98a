"""``hosting.snapshotprofile.*``: when snapshots of a disk are taken by themselves."""

from api.methods.call import Call, Struct
from api.methods.filters import IntFilter, Page, TextFilter
from api.methods.parameters import Parameters
from api.methods.table import method
from api.settings import SnapshotProfileSettings


class SnapshotProfileFilters(Parameters):
    """Which profiles."""

    id: IntFilter | None = None
    name: TextFilter | None = None


class SnapshotProfileListOptions(SnapshotProfileFilters, Page):
    """Which profiles, and which page of them."""


def show(profile: SnapshotProfileSettings) -> Struct:
    """How a profile is shown."""
    return {
        "id": profile.id,
        "name": profile.name,
        "kept_total": sum(schedule.kept for schedule in profile.schedules),
        "quota_factor": profile.quota_factor,
        "schedules": [{"name": one.name, "kept_version": one.kept} for one in profile.schedules],
    }


@method("hosting.snapshotprofile.list", "array", changes=False)
def list_(call: Call, opts: SnapshotProfileListOptions | None = None) -> list[Struct]:
    """List the snapshot profiles that a disk may have."""
    opts = opts or SnapshotProfileListOptions()
    found = [
        profile
        for profile in call.services.snapshot_profiles
        if (opts.id is None or profile.id in opts.id) and (opts.name is None or profile.name in opts.name)
    ]
    first = opts.page * opts.items_per_page
    return [show(profile) for profile in found[first : first + opts.items_per_page]]
