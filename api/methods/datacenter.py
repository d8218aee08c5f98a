"""The namespace ``hosting.datacenter``: where objects can be."""

from sqlalchemy import select

from api.methods.call import Call, Struct
from api.methods.filters import Columns, IntFilter, Page, TextFilter, matching, paged
from api.methods.parameters import Parameters
from api.methods.table import method
from api.store.models import Datacenter

# closed for NONE is nobody, for NEW those without objects there, for ALL everybody
_OPENED = ("NONE", "NEW")
_CLOSED = ("NEW", "ALL")

COLUMNS: Columns = {
    "id": Datacenter.id,
    "dc_code": Datacenter.dc_code,
    "iso": Datacenter.iso,
    "name": Datacenter.name,
    "country": Datacenter.country,
    "iaas_closed_for": Datacenter.iaas_closed_for,
    "paas_closed_for": Datacenter.paas_closed_for,
    "iaas_opened": Datacenter.iaas_closed_for.in_(_OPENED),
    "iaas_closed": Datacenter.iaas_closed_for.in_(_CLOSED),
    "paas_opened": Datacenter.paas_closed_for.in_(_OPENED),
    "paas_closed": Datacenter.paas_closed_for.in_(_CLOSED),
}


class DatacenterFilters(Parameters):
    """Which datacenters."""

    id: IntFilter | None = None
    dc_code: TextFilter | None = None
    iso: TextFilter | None = None
    name: TextFilter | None = None
    country: TextFilter | None = None
    iaas_opened: bool | None = None
    iaas_closed: bool | None = None
    paas_opened: bool | None = None
    paas_closed: bool | None = None


class DatacenterListOptions(DatacenterFilters, Page):
    """Which datacenters, and which page of them."""


def show(record: Datacenter, opened: list[int]) -> Struct:
    """DatacenterReturn; `opened` are the ids of the datacenters that take new objects."""
    return {
        "id": record.id,
        "dc_code": record.dc_code,
        "iso": record.iso,
        "name": record.name,
        "country": record.country,
        "can_migrate_to": [other for other in opened if other != record.id],
        "deactivate_at": record.deactivate_at,
        "iaas_closed_for": record.iaas_closed_for,
        "paas_closed_for": record.paas_closed_for,
    }


@method("hosting.datacenter.list", returns="array", changes=False)
def list_(call: Call, opts: DatacenterListOptions | None = None) -> list[Struct]:
    """List the datacenters."""
    query = paged(matching(select(Datacenter), opts, COLUMNS), opts, COLUMNS)
    open_ones = select(Datacenter.id).where(Datacenter.iaas_closed_for.in_(_OPENED)).order_by(Datacenter.id)
    with call.store.reading() as session:
        opened = list(session.scalars(open_ones))
        return [show(record, opened) for record in session.scalars(query)]
