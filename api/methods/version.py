"""The namespace ``version``."""

from api.methods.call import Call, Struct
from api.methods.table import method

# the last one that the reference speaks of
_API_VERSION = "3.3.42"


@method("version.info", returns="struct", checks_key=False, changes=False)
def info(_call: Call) -> Struct:
    """Get the version of the API."""
    return {"api_version": _API_VERSION}
