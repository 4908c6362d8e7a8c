"""How much an Arrow IPC input may ask for before it is refused.

Every number that a hostile or broken writer can choose (a length prefix, a count, a claimed
uncompressed size, a nesting depth) is compared with a limit before memory is allocated for it or
pyarrow is called with it. A refusal is a `LimitExceededError` that carries the limit and the offset.
"""

from __future__ import annotations

import dataclasses

from fletching.errors import UsageError

__all__ = ["DEFAULT_LIMITS", "Limits"]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds on what one Arrow IPC input may claim; raise them for sources you trust.

    Attributes:
        max_metadata_bytes: the flatbuffer of one message. A schema of 10,000 plain columns takes
            about 1 MB. Also bounds a file's footer, which grows by 24 bytes per record batch.
        max_body_bytes: the body of one message that has to be held in memory (`MessageDecoder`,
            `read_message`, files that are read rather than mapped). Walking bytes that are already
            there allocates nothing and is not bounded by it.
        max_rows: rows of one record or dictionary batch, and values of any child array. Lengths
            cost nothing on the wire (a null column has no buffers), so they need their own bound;
            the default is the largest length the format asks every implementation to accept.
        max_fields: fields of one schema, children and dictionary value types included.
        max_depth: how deep fields may nest; the default is what pyarrow itself accepts.
        max_uncompressed_bytes: sum of the uncompressed sizes that the buffers of one compressed
            message claim.
        max_compression_ratio: uncompressed to compressed bytes of one message, applied once it
            claims more than ``ratio_free_bytes``. The default is what Zstandard can reach, so that
            whatever a writer compressed is read; lower it where so much memory for so few bytes is
            not to be had for the asking. What a codec cannot hold in its bytes is always refused.
        ratio_free_bytes: uncompressed bytes of one message below which the ratio is not looked at.
        max_dictionaries: dictionaries (ids) of one stream.
        max_dictionary_bytes: bytes of all dictionaries that a stream keeps alive at one time.
        max_custom_metadata_entries: key-value pairs in one message, schema, field or footer.
    """

    max_metadata_bytes: int = 64 << 20
    max_body_bytes: int = 2 << 30
    max_rows: int = (1 << 31) - 1
    max_fields: int = 100_000
    max_depth: int = 64
    max_uncompressed_bytes: int = 2 << 30
    max_compression_ratio: int = 32 << 10
    ratio_free_bytes: int = 64 << 20
    max_dictionaries: int = 100_000
    max_dictionary_bytes: int = 2 << 30
    max_custom_metadata_entries: int = 100_000

    def __post_init__(self) -> None:
        """Refuses limits below one, which no input could meet."""
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if not isinstance(value, int) or isinstance(value, bool):
                raise UsageError(f"limit {field.name} is a whole number, not {value!r}")
            if value < (0 if field.name == "ratio_free_bytes" else 1):
                raise UsageError(f"limit {field.name} is {value}, but must be positive")


DEFAULT_LIMITS = Limits()
"""What every function of this room uses when it is given no limits."""
