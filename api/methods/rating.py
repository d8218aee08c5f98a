"""``hosting.rating.*``: what the resources in use cost each hour."""

from api.methods.call import Call, Struct
from api.methods.filters import Page
from api.methods.table import method


@method("hosting.rating.list", "array", changes=False)
def list_(_call: Call, opts: Page | None = None) -> list[Struct]:  # noqa: ARG001 - nothing to choose from
    """List what the account's resources cost in credits for each hour: nothing, because nothing is billed."""
    return []
