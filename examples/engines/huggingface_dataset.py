"""Hugging Face datasets: a table as an iterable dataset whose shards are splits."""

import datasets

import fletching


def rows(splits):
    """The rows of some splits, each as a dict; the library gives every worker its own splits."""
    for split in splits:
        for batch in split.to_batches():
            yield from batch.to_pylist()


if __name__ == "__main__":
    with fletching.connect("./data", create=True) as client:
        texts = client.create_table("texts", "id BIGINT, text STRING", if_not_exists=True)
        texts.overwrite({"id": range(100), "text": [f"text {n}" for n in range(100)]})

        with texts.scan(filter="id >= 10").session() as session:
            stream = datasets.IterableDataset.from_generator(
                rows,
                gen_kwargs={"splits": list(session.splits(4))},
                # Else the library guesses types from Python values, and has no columns to say.
                features=datasets.Features.from_arrow_schema(session.schema),
            )
            # Splits travel without the key; shuffling is by splits and a buffer.
            ids = [row["id"] for row in stream.shuffle(seed=7, buffer_size=20)]
            assert sorted(ids) == list(range(10, 100))

        # One that fits into memory shares the table's Arrow memory.
        whole = datasets.Dataset(texts.to_table())
        assert whole[3]["text"] == "text 3"

        # What a generator makes is kept on disk under its arguments: name the version, or the rows
        # that are appended later are never seen.
        def stored(version):
            return datasets.Dataset.from_generator(
                rows, gen_kwargs={"splits": [texts.as_of(version).scan()]}, cache_dir="./cache"
            )

        first = texts.versions(1)[0].version
        texts.append({"id": [100], "text": ["text 100"]})
        assert len(stored(first)) == 100
        assert len(stored(texts.versions(1)[0].version)) == 101

        # And back: whatever is Arrow inside is appended as it is.
        texts.append(whole.select(range(5)).with_format("arrow")[:])
        print(texts.count_rows(), "rows")
        assert texts.count_rows() == 106
