"""The namespace ``hosting.ssh``: public keys that an account keeps to hand to its virtual machines."""

from typing import Annotated

from pydantic import AfterValidator, Field
from sqlalchemy import Select, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from api.methods.call import Call, Struct
from api.methods.faults import Cause, Object, not_found, refuse
from api.methods.filters import Columns, IntFilter, Page, TextFilter, counted, matching, paged
from api.methods.ids import KeyId
from api.methods.parameters import Parameters, Text, invalid
from api.methods.public_key import InvalidPublicKey, parse_public_key
from api.methods.table import method
from api.operations.jobs import DryRunPassed
from api.store.models import SshKey

COLUMNS: Columns = {"id": SshKey.id, "name": SshKey.name, "fingerprint": SshKey.fingerprint}


def _name(value: str) -> str:
    if not value.strip() or not value.isprintable():
        raise invalid(Object.KEY, Cause.NAME, "name: a key needs a name of printable characters")
    return value


def _value(value: str) -> str:
    try:
        parse_public_key(value)
    except InvalidPublicKey as reason:
        raise invalid(Object.KEY, Cause.BADPARAMETER, f"value: {reason}") from None
    return value.strip()


class SshKeyCountOptions(Parameters):
    """Which keys."""

    id: IntFilter | None = None
    name: TextFilter | None = None
    fingerprint: TextFilter | None = None


class SshKeyListOptions(SshKeyCountOptions, Page):
    """Which keys, and which page of them."""


class SshKeyDescription(Parameters):
    """The key to keep; `value` is an OpenSSH public key."""

    name: Annotated[str, Field(max_length=255), AfterValidator(_name)]
    value: Annotated[Text, AfterValidator(_value)]


def show(record: SshKey) -> Struct:
    """SshKeyReturn as ``list`` gives it; `fingerprint` is the MD5 between colons."""
    return {"id": record.id, "name": record.name, "fingerprint": record.fingerprint}


def show_full(record: SshKey) -> Struct:
    """SshKeyReturn as ``info`` and ``create`` give it, with the key itself."""
    return {**show(record), "value": record.value}


def _of(call: Call) -> Select[SshKey]:
    return select(SshKey).where(SshKey.account_id == call.account.id)


def _find(call: Call, session: Session, identifier: int) -> SshKey:
    record = session.scalar(_of(call).where(SshKey.id == identifier))
    if record is None:
        raise not_found(Object.KEY, identifier)
    return record


@method("hosting.ssh.list", returns="array", changes=False)
def list_(call: Call, opts: SshKeyListOptions | None = None) -> list[Struct]:
    """List the account's SSH keys."""
    query = paged(matching(_of(call), opts, COLUMNS), opts, COLUMNS)
    with call.store.reading() as session:
        return [show(record) for record in session.scalars(query)]


@method("hosting.ssh.count", returns="int", changes=False)
def count(call: Call, opts: SshKeyCountOptions | None = None) -> int:
    """Count the account's SSH keys."""
    with call.store.reading() as session:
        return counted(session, matching(_of(call), opts, COLUMNS))


@method("hosting.ssh.info", returns="struct", changes=False)
def info(call: Call, key_id: KeyId) -> Struct:
    """Get information about an SSH key, with the key itself."""
    with call.store.reading() as session:
        return show_full(_find(call, session, key_id))


@method("hosting.ssh.create", returns="struct")
def create(call: Call, key_spec: SshKeyDescription) -> Struct:
    """Keep an SSH key under a name that no other key of the account has."""
    record = SshKey(
        account_id=call.account.id,
        name=key_spec.name,
        value=key_spec.value,
        fingerprint=parse_public_key(key_spec.value).fingerprint,
    )
    with call.store.writing() as session:
        session.add(record)
        try:
            session.flush()
        except IntegrityError:
            raise refuse(
                Object.KEY, Cause.EXIST, f"a key named {key_spec.name!r} already exists", "key_spec", "name"
            ) from None
        if call.dry_run:
            raise DryRunPassed
        return show_full(record)


@method("hosting.ssh.delete", returns="boolean")
def delete(call: Call, key_id: KeyId) -> bool:
    """Forget an SSH key; the virtual machines that were given it keep it."""
    with call.store.writing() as session:
        session.delete(_find(call, session, key_id))
    return True
