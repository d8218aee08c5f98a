"""How a trigger of a virtual machine is shown (the reference's VMTriggersReturn)."""

from api.methods.call import Struct
from api.methods.parameters import MAX_INT
from api.store.models import VmTrigger


def show(trigger: VmTrigger) -> Struct:
    """An item of `triggers`: a bound that it does not have is the value that nothing is beyond."""
    return {
        "datasource": trigger.datasource,
        "date_created": trigger.date_created,
        "device_number": trigger.device_number,
        "device_type": trigger.device_type,
        "duration": trigger.duration,
        "id": trigger.id,
        "max_value": MAX_INT if trigger.max_value is None else trigger.max_value,
        "min_value": 0 if trigger.min_value is None else trigger.min_value,
        "recovery_duration": trigger.recovery_duration,
        "vm_id": trigger.vm_id,
    }
