"""The ids that callers name objects by, each with the kind of object that it is about.

The kind is in the JSON schema of a parameter: what is said of an id that is somebody else's is tested for
each of them, wherever it stands.
"""

from typing import Annotated

from pydantic import Field, WrapValidator

from api.methods.parameters import Int, listed

KIND = "kind"
"""The key of a schema that holds the kind."""

SHARED = frozenset(("datacenter", "image"))
"""Kinds that belong to nobody."""

DatacenterId = Annotated[Int, Field(json_schema_extra={KIND: "datacenter"})]
DiskId = Annotated[Int, Field(json_schema_extra={KIND: "disk"})]
IfaceId = Annotated[Int, Field(json_schema_extra={KIND: "iface"})]
ImageId = Annotated[Int, Field(json_schema_extra={KIND: "image"})]
IpId = Annotated[Int, Field(json_schema_extra={KIND: "ip"})]
KeyId = Annotated[Int, Field(json_schema_extra={KIND: "key"})]
OperationId = Annotated[Int, Field(json_schema_extra={KIND: "operation"})]
SnapshotId = Annotated[Int, Field(json_schema_extra={KIND: "snapshot"})]
VlanId = Annotated[Int, Field(json_schema_extra={KIND: "vlan"})]
VmId = Annotated[Int, Field(json_schema_extra={KIND: "vm"})]

KeyIds = Annotated[list[KeyId], WrapValidator(listed), Field(max_length=1000)]
VmIds = Annotated[list[VmId], WrapValidator(listed), Field(max_length=1000)]
