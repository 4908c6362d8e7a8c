"""Which catalog, objects and server key belong together: found out before anything is made or deleted.

A store has an identity object, created once and exclusively; its catalog has the same identity and
the fingerprint of the server key. Each opening compares them. What is missing beside something that
is there was lost or is somewhere else, and is not made anew, for nothing good follows: objects would
be orphans of a new catalog, blob references and stored keys would be dead under a new server key.

What is looked at comes in this order, the reverse of the order in which things are made: objects,
catalog, key. So a folder that another process is just making is never taken for one that lost
something.
"""

from __future__ import annotations

import dataclasses
import hmac
import secrets

import msgspec
from sqlalchemy import Connection

from fletching.catalog.identity_rows import (
    IdentityRow,
    any_object_key,
    ensure_identity,
    find_identity,
    replace_identity,
)
from fletching.engine.context import EngineContext
from fletching.errors import (
    CorruptObjectError,
    IdentityError,
    ObjectExistsError,
    ObjectNotFoundError,
)
from fletching.objects.store import IDENTITY_KEY, ObjectStore

__all__ = [
    "StoreLook",
    "check_identity",
    "check_key",
    "check_server_key",
    "check_store",
    "key_fingerprint",
    "look_at_store",
    "match_identity",
]

SEGMENT_PREFIX = "tables"
_ADOPT = "`fletching adopt` accepts it as it is now"


class _Identity(msgspec.Struct, frozen=True, forbid_unknown_fields=False):
    """What the identity object holds, as JSON."""

    store_id: str
    created_at: float
    format: int = 1


@dataclasses.dataclass(frozen=True, slots=True)
class StoreLook:
    """What an object store shows before anything is made in it."""

    store_id: str | None
    """None if there is no identity object."""
    has_objects: bool

    @property
    def is_empty(self) -> bool:
        """Whether nothing of ours was ever there."""
        return self.store_id is None and not self.has_objects


def key_fingerprint(server_key: bytes) -> str:
    """What may be known of a server key: it tells whether two are the same."""
    return hmac.digest(server_key, b"fletching server key fingerprint", "sha256").hex()[:32]


def look_at_store(store: ObjectStore, *, adopt: bool = False) -> StoreLook:
    """Reads the identity object, and looks whether there are objects at all.

    Args:
        store: the store.
        adopt: take a damaged identity object for none.

    Raises:
        CorruptObjectError: the identity object cannot be understood.
        StorageError: the store cannot be asked.
    """
    has_objects = next(iter(store.list(SEGMENT_PREFIX)), None) is not None
    try:
        return StoreLook(_read(store), has_objects)
    except CorruptObjectError:
        if not adopt:
            raise
        return StoreLook(None, has_objects)


def _read(store: ObjectStore) -> str | None:
    try:
        stored = store.open(IDENTITY_KEY)
    except ObjectNotFoundError:
        return None
    try:
        data = bytes(stored.read(0, min(stored.length, 4096)))
    finally:
        stored.close()
    try:
        return _DECODER.decode(data).store_id
    except msgspec.MsgspecError as error:
        raise CorruptObjectError(
            f"the identity object {IDENTITY_KEY} of the object store is damaged: restore it, or"
            f" {_ADOPT}",
            key=IDENTITY_KEY,
        ) from error


def _create(store: ObjectStore, identity: IdentityRow) -> str:
    """Creates the identity object unless there is one; returns the identity that the store has."""
    try:
        sink = store.create(IDENTITY_KEY)
        try:
            sink.write(msgspec.json.encode(_Identity(identity.store_id, identity.created_at)))
            sink.commit()
        finally:
            sink.abort()
    except ObjectExistsError:
        known = _read(store)
        if known is not None:
            return known
        raise
    return identity.store_id


def match_identity(context: EngineContext, look: StoreLook, *, adopt: bool = False) -> None:
    """Compares catalog, objects and server key; gives those that have no identity yet one.

    Args:
        context: of the engine that is being opened, its catalog migrated.
        look: what the store showed before the catalog was opened.
        adopt: accept what is there as belonging together, because a person says so.

    Raises:
        IdentityError: they do not belong together; nothing was changed.
    """
    fingerprint = key_fingerprint(context.server_key)
    new = IdentityRow(look.store_id or secrets.token_hex(16), fingerprint, context.clock())
    with context.database.read() as connection:
        known = find_identity(connection)
        listed = any_object_key(connection)
    if adopt:
        _adopt(context, new, known)
        return
    if known is None:
        if look.store_id is not None:
            raise IdentityError(
                f"the object store belongs to another catalog (store {look.store_id}): open the"
                f" catalog that it came with, or choose an empty place for objects; {_ADOPT}"
            )
        _check_unclaimed(context, look, listed)
        with context.database.write() as connection:
            # Without the key's fingerprint until the store has the identity, too: a catalog that has the one
            # is never given a second place for objects, however little is in it.
            known = ensure_identity(connection, dataclasses.replace(new, key_fingerprint=None))
    _check_fingerprint(known, fingerprint)
    store_id = look.store_id
    if store_id is None and known.key_fingerprint is not None:
        store_id = _read(context.store)  # somebody else may have made it since it was looked for
        if store_id is None:
            _check_unclaimed(context, look, listed)
            raise IdentityError(
                "the object store has no identity, and that of this catalog has one (store"
                f" {known.store_id}): check where the objects are, or restore them; {_ADOPT}"
            )
    elif store_id is None:
        _check_unclaimed(context, look, listed)
        store_id = _create(context.store, known)
    if store_id != known.store_id:
        raise IdentityError(
            f"the objects belong to another catalog: the object store is {store_id}, the catalog's"
            f" is {known.store_id}; check both locations; {_ADOPT}"
        )
    if known.key_fingerprint is None:
        with context.database.write() as connection:
            known = ensure_identity(connection, new)
        _check_fingerprint(known, fingerprint)


def _check_fingerprint(known: IdentityRow, fingerprint: str) -> None:
    if known.key_fingerprint not in {None, fingerprint}:
        raise IdentityError(
            "the server key is not the one that this catalog was made with: restore the server.key"
            f" that belongs to it; {_ADOPT}, and makes stored access keys and blob references that"
            " the lost key made unreadable"
        )


def _check_unclaimed(context: EngineContext, look: StoreLook, listed: str | None) -> None:
    """Whether a store without an identity can be a catalog's: what one lists, the other has."""
    if listed is None:
        if look.has_objects:
            raise IdentityError(
                "the object store has objects that this catalog knows nothing of: it belongs to"
                f" another catalog, or the catalog is an old copy; {_ADOPT}"
            )
        return
    try:
        context.store.open(listed).close()
    except ObjectNotFoundError:
        raise IdentityError(
            f"the object store has no identity and lacks {listed}, which the catalog lists: check"
            f" where the objects are, or restore them; {_ADOPT}"
        ) from None


def _adopt(context: EngineContext, new: IdentityRow, known: IdentityRow | None) -> None:
    store_id = new.store_id if known is None else known.store_id
    identity = dataclasses.replace(new, store_id=store_id)
    try:
        current = _read(context.store)
    except CorruptObjectError:
        current = ""
    if current not in (None, store_id):
        context.store.delete(IDENTITY_KEY)
    _create(context.store, identity)
    with context.database.write() as connection:
        replace_identity(connection, identity)
    context.generations.accept()


def check_identity(context: EngineContext) -> None:
    """Compares catalog and store again: before something is deleted that only one of them knows.

    Raises:
        IdentityError: they do not belong together any more, or one of them lost its identity.
    """
    with context.database.read() as connection:
        known = find_identity(connection)
    check_store(context, known)


def check_key(connection: Connection, server_key: bytes) -> None:
    """Refuses to go on with a server key that is not the catalog's any more: what it seals nobody would open.

    Call it in each transaction that records something sealed.

    Raises:
        IdentityError: somebody has had the catalog accept another.
    """
    known = find_identity(connection)
    if known is not None and known.key_fingerprint not in {None, key_fingerprint(server_key)}:
        raise IdentityError(
            "the server key of this catalog was changed, and this process has the old one:"
            " restart it with the new one"
        )


def check_server_key(context: EngineContext) -> None:
    """As `check_key`, asked by itself.

    Raises:
        IdentityError: as of `check_key`.
        StorageError: the catalog does not answer, or ServiceUnavailableError.
    """
    with context.database.read() as connection:
        check_key(connection, context.server_key)


def check_store(context: EngineContext, known: IdentityRow | None) -> None:
    """Compares the store with the identity that the catalog has.

    Raises:
        IdentityError: they do not belong together.
    """
    store_id = _read(context.store)
    if known is None or store_id is None or known.store_id != store_id:
        raise IdentityError(
            f"catalog and objects are not the ones that were opened together: the object store is"
            f" {store_id or 'without identity'}, the catalog's is"
            f" {'unknown' if known is None else known.store_id}; nothing is deleted"
        )


# At import: see protocol/codec/codec_admin.py.
_DECODER = msgspec.json.Decoder(_Identity)
