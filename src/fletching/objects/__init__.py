"""Immutable bytes by key: a local folder, or an object store.

``store.py`` says what every store promises; ``local.py`` keeps objects as files of a folder and
maps them; ``remote_store.py`` keeps them in S3, Google Cloud Storage or Azure.
"""

from fletching.objects.local import LocalStore
from fletching.objects.store import ObjectInfo, ObjectSink, ObjectStore, StoredObject, checked_key

__all__ = [
    "LocalStore",
    "ObjectInfo",
    "ObjectSink",
    "ObjectStore",
    "StoredObject",
    "checked_key",
]
