"""``contact.*``: who pays."""

from api.methods.call import Call, Struct
from api.methods.table import method


@method("contact.balance", "struct", changes=False)
def balance(_call: Call) -> Struct:
    """Get the money that was paid in advance: none, because nothing is billed."""
    return {"prepaid": {"amount": "0.00", "currency": "EUR"}}
