"""Records as plain values that JSON carries, and back."""

import json

from sqlalchemy import inspect

from api.store.models import Disk, Record, now
from api.store.plain import plain, restored


def values(record: Record) -> dict[str, object]:
    return {column.key: getattr(record, column.key) for column in inspect(type(record)).column_attrs}


def test_what_is_restored_is_what_it_was() -> None:
    disk = Disk(
        id=7, name='<"é', size=1024, kernel_cmdline={"a": True}, vm_id=None, leaving=False, date_created=now()
    )
    assert values(restored(Disk, json.loads(json.dumps(plain(disk))))) == values(disk)


def test_what_is_left_out_or_unknown_or_given_otherwise() -> None:
    disk = Disk(id=7, name="x", size=1024)
    assert plain(disk, without=("size",)) == {"id": 7, "name": "x"}
    again = restored(Disk, {**plain(disk), "of a newer version": 1}, size=2048)
    assert (again.id, again.name, again.size) == (7, "x", 2048)
