from __future__ import annotations

import base64
import random
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fletching.engine.blobs.blob_references import (
    TOKEN_BYTES,
    BlobReference,
    ReferenceChecker,
    ReferenceKey,
    pack_key,
)
from fletching.errors import InvalidArgumentError, NotFoundError, StorageError
from fletching.protocol.types.blob_locations import TEXT_BYTES
from fletching.protocol.types.blob_type import blob

KEY = ReferenceKey(b"k" * 32)
TABLE = "t0123456789abcdef"


def reference(number: int = 0, table: str = TABLE) -> BlobReference:
    rng = random.Random(number)
    return BlobReference(
        table, rng.randbytes(12).hex(), rng.randrange(1 << 40), number % 100, number, number * 7
    )


def text(number: int = 0, table: str = TABLE) -> bytes:
    return KEY.text(reference(number, table)).encode()


def token(number: int = 0, table: str = TABLE) -> bytes:
    return KEY.token(reference(number, table))


references = st.builds(
    BlobReference,
    st.binary(min_size=8, max_size=8).map(lambda b: f"t{b.hex()}"),
    st.binary(min_size=12, max_size=12).map(bytes.hex),
    st.integers(0, 2**64 - 1),
    st.integers(0, 2**16 - 1),
    st.integers(0, 2**64 - 1),
    st.integers(0, 2**32 - 1),
)


class TestText:
    @given(st.lists(references, max_size=40))
    def test_references_come_back(self, many: list[BlobReference]) -> None:
        texts = [KEY.text(each) for each in many]
        assert texts == KEY.texts(many)
        assert KEY.parse_many(texts) == many
        assert [KEY.parse(each) for each in texts] == many

    def test_sizes(self) -> None:
        assert len(token()) == TOKEN_BYTES <= 100
        assert base64.b64encode(token()) == text()
        assert len(text()) == TEXT_BYTES
        assert b"=" not in text()

    def test_other_spellings_of_base64_are_read(self) -> None:
        for number in range(30):
            standard = text(number).decode()
            for spelling in (
                standard.replace("+", "-").replace("/", "_"),
                standard + "==",
                f" {standard}\n",
                base64.b64encode(standard.encode()).decode(),
                base64.urlsafe_b64encode(standard.encode()).decode().rstrip("="),
            ):
                assert KEY.parse(spelling) == reference(number)

    @pytest.mark.parametrize(
        "bad",
        [
            "",
            "x",
            "A" * 107,
            "A" * 108,
            base64.b64encode(b"\xff" * 80).decode(),
            "A" * 80,
            "A" * 79,
            "é" * 80,
            "A" * 10_000,
            "*" * 80,
            text().decode() * 2,
        ],
    )
    def test_what_is_no_reference_is_unknown(self, bad: str) -> None:
        with pytest.raises(NotFoundError) as caught:
            KEY.parse(bad)
        assert caught.value.code == "NoSuchObject"

    @pytest.mark.parametrize("count", [1, 19, 20, 40])
    def test_every_flipped_bit_is_found(self, count: int) -> None:
        texts = [text(n).decode() for n in range(count)]
        last = token(count - 1)
        for bit in range(8 * TOKEN_BYTES):
            forged = bytearray(last)
            forged[bit // 8] ^= 1 << bit % 8
            texts[-1] = base64.b64encode(forged).decode()
            with pytest.raises(NotFoundError) as caught:
                KEY.parse_many(texts)
            assert texts[-1] not in str(caught.value)

    def test_another_servers_references_are_unknown(self) -> None:
        with pytest.raises(NotFoundError):
            ReferenceKey(b"K" * 32).parse(text().decode())

    def test_a_valid_mac_under_another_version_is_unknown(self) -> None:
        from fletching.engine.blobs import siphash

        signed = b"\x02" + token()[1:44]
        forged = signed + siphash.mac(KEY._key, signed)
        with pytest.raises(NotFoundError):
            KEY.parse(base64.b64encode(forged).decode())

    def test_where_things_are(self) -> None:
        each = BlobReference(TABLE, "0a" * 6 + "0b" * 6, 100, 20, 3, 0)
        assert (each.data_start, each.end) == (120, 123)
        assert pack_key(TABLE, each.pack) == f"tables/{TABLE}/{'0a' * 6}-{'0b' * 6}.pack"

    def test_a_table_id_that_does_not_fit_is_our_fault(self) -> None:
        with pytest.raises(StorageError):
            KEY.text(reference(table="events"))


def as_blobs(values: list[bytes | None]) -> Any:
    return pa.ExtensionArray.from_storage(blob(), pa.array(values, pa.binary()))


def check(array: Any, data_type: Any) -> Any:
    return ReferenceChecker(KEY, TABLE).check(array, data_type, name="image")


class TestColumns:
    @pytest.mark.parametrize(
        "values",
        [
            [],
            [None],
            [text(1)],
            [text(n) for n in range(50)],
            [text(1), None, text(2), None],
            [text(1)] * 20_000,
        ],
        ids=len,
    )
    def test_texts_are_left_as_they_are(self, values: list[bytes | None]) -> None:
        for array in (pa.array(values, pa.binary()), as_blobs(values)):
            assert check(array, blob()) is array
            assert check(array.slice(1), blob()).to_pylist() == values[1:]

    @given(
        st.lists(st.one_of(st.none(), st.integers(0, 40)), max_size=60),
        st.randoms(use_true_random=False),
    )
    def test_tokens_become_texts(self, numbers: list[int | None], rng: random.Random) -> None:
        written = [
            None if n is None else (text(n) if rng.random() < 0.5 else token(n)) for n in numbers
        ]
        stored = [None if n is None else text(n) for n in numbers]
        start = rng.randrange(len(numbers) + 1)
        for array in (
            pa.array(written, pa.binary()),
            pa.array(written, pa.large_binary()),
            as_blobs(written),
        ):
            for part, expected in ((array, stored), (array.slice(start), stored[start:])):
                checked = check(part, blob())
                assert checked.type == part.type
                assert checked.to_pylist() == expected
                checked.validate(full=True)

    def test_texts_as_strings_are_taken(self) -> None:
        array = pa.array([text(1).decode(), None])
        assert check(array, blob()) is array

    @pytest.mark.parametrize(
        ("bad", "words"),
        [
            (b"", "0 bytes"),
            (b"raw picture", "11 bytes"),
            (bytes(TOKEN_BYTES), "not made by this server"),
            (b"A" * TEXT_BYTES, "not made by this server"),
            (b"*" * TEXT_BYTES, "not made by this server"),
            (text(1)[:-1] + b"\xff", "not made by this server"),
            (text(1, "tfedcba9876543210"), "another table"),
            (token(1, "tfedcba9876543210"), "another table"),
        ],
    )
    @pytest.mark.parametrize("neighbours", [0, 3])
    def test_what_is_no_reference_of_the_table_is_refused(
        self, bad: bytes, words: str, neighbours: int
    ) -> None:
        values = [text(n) for n in range(neighbours)] + [bad] + [None] * neighbours
        with pytest.raises(InvalidArgumentError, match=words) as caught:
            check(pa.array(values, pa.binary()), blob())
        assert "'image'" in str(caught.value)

    def test_another_type_is_refused(self) -> None:
        with pytest.raises(InvalidArgumentError, match="int64"):
            check(pa.array([1]), blob())

    def test_packs_are_remembered(self) -> None:
        checker = ReferenceChecker(KEY, TABLE)
        checker.check(pa.array([text(1), None, text(2), text(1)], pa.binary()), blob())
        checker.check(pa.array([token(3)], pa.binary()), blob())
        assert checker.packs == {reference(n).pack for n in (1, 2, 3)}


STRUCT = pa.struct([("n", pa.int32()), ("b", blob())])
NESTED = [
    (pa.list_(blob()), [[1, None, 2], None, [], [3]]),
    (pa.large_list(blob()), [[1, None], None, [], [3]]),
    (pa.list_(blob(), 2), [[1, 2], None, [None, 3]]),
    (pa.map_(pa.string(), blob()), [[("a", 1), ("b", None)], None, [], [("c", 2)]]),
    (STRUCT, [{"n": 1, "b": 1}, None, {"n": None, "b": None}, {"n": 2, "b": 2}]),
    (pa.list_(STRUCT), [[{"n": 1, "b": 1}, None], None, [{"n": 2, "b": None}]]),
    (pa.map_(pa.string(), pa.list_(blob())), [[("a", [1, None]), ("b", None)], None]),
]


def with_values(value: Any, make: Any) -> Any:
    if isinstance(value, dict):
        return {k: make(v) if k == "b" and v is not None else v for k, v in value.items()}
    if isinstance(value, tuple):
        return (value[0], with_values(value[1], make))
    if isinstance(value, list):
        return [with_values(v, make) for v in value]
    return None if value is None else make(value)


def plain(data_type: Any) -> Any:
    """The same type with binary in the place of BLOB, as PyODPS writes it."""
    if data_type == blob():
        return pa.binary()
    if pa.types.is_struct(data_type):
        return pa.struct([pa.field(f.name, plain(f.type)) for f in data_type])
    if pa.types.is_map(data_type):
        return pa.map_(data_type.key_type, plain(data_type.item_type))
    if pa.types.is_fixed_size_list(data_type):
        return pa.list_(plain(data_type.value_type), data_type.list_size)
    if pa.types.is_large_list(data_type):
        return pa.large_list(plain(data_type.value_type))
    if pa.types.is_list(data_type):
        return pa.list_(plain(data_type.value_type))
    return data_type


class TestNested:
    @pytest.mark.parametrize(("data_type", "numbers"), NESTED, ids=lambda v: str(v)[:40])
    @pytest.mark.parametrize("start", [0, 1, 2])
    def test_every_shape(self, data_type: Any, numbers: list[Any], start: int) -> None:
        texts = pa.array(with_values(numbers, text), plain(data_type)).slice(start)
        tokens = pa.array(with_values(numbers, token), plain(data_type)).slice(start)
        assert check(texts, data_type) is texts
        checked = check(tokens, data_type)
        checked.validate(full=True)
        assert checked.type == tokens.type
        assert checked.to_pylist() == texts.to_pylist()
        typed = tokens.cast(data_type)
        assert check(typed, data_type).cast(plain(data_type)).to_pylist() == texts.to_pylist()

    @pytest.mark.parametrize(("data_type", "numbers"), NESTED, ids=lambda v: str(v)[:40])
    def test_bad_values_are_found_at_any_depth(self, data_type: Any, numbers: list[Any]) -> None:
        bad = pa.array(with_values(numbers, lambda _: b"junk"), plain(data_type))
        with pytest.raises(InvalidArgumentError):
            check(bad, data_type)

    def test_what_lies_under_a_null_is_not_looked_at(self) -> None:
        child = pa.array([text(1), b"junk", token(2)], pa.binary())
        struct = pa.StructArray.from_arrays(
            [child], names=["b"], mask=pa.array([False, True, False])
        )
        checked = check(struct, pa.struct([("b", blob())]))
        assert checked.to_pylist() == [{"b": text(1)}, None, {"b": text(2)}]
        lists = pa.ListArray.from_arrays(
            pa.array([0, 1, 2, 3], pa.int32()), child, mask=pa.array([False, True, False])
        )
        checked = check(lists, pa.list_(blob()))
        assert checked.to_pylist() == [[text(1)], None, [text(2)]]
        checked.validate(full=True)

    def test_a_batch(self) -> None:
        schema = pa.schema([("id", pa.int64()), ("image", blob()), ("more", pa.list_(blob()))])
        checker = ReferenceChecker(KEY, TABLE)

        def batch(make: Any) -> Any:
            columns = [pa.array([1, 2]), as_blobs([make(1), None])]
            columns.append(pa.array([[make(2)], None], pa.list_(pa.binary())).cast(schema[2].type))
            return pa.record_batch(columns, schema=schema)

        assert checker.check_batch(good := batch(text), schema) is good
        assert checker.check_batch(batch(token), schema).equals(good)
        assert len(checker.packs) == 2
