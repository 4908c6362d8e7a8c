"""Files as blobs beside their rows: many small ones at once, and ranges of a large one."""

import os
from pathlib import Path

import fletching

folder = Path("pictures")
folder.mkdir(exist_ok=True)
for number in range(20):
    (folder / f"{number:02}.png").write_bytes(b"\x89PNG" + os.urandom(2_000))
(folder / "film.mp4").write_bytes(os.urandom(3_000_000))

with fletching.connect("./data", create=True) as client:
    table = client.create_table(
        "pictures", "name STRING, size BIGINT, content BLOB", if_not_exists=True
    )
    # Contents go in as bytes, paths or open files; the column then holds references to them.
    paths = sorted(folder.iterdir())
    table.overwrite(
        {
            "name": [path.name for path in paths],
            "size": [path.stat().st_size for path in paths],
            "content": paths,
        }
    )

    # Reading rows moves no contents; only what is asked for travels.
    small = table.scan(filter="size < 10000").to_table()
    for name, blob in zip(
        small["name"].to_pylist(), client.get_blobs(small["content"]), strict=True
    ):
        assert blob.data == (folder / name).read_bytes()
    print(small.num_rows, "pictures read")

    film = table.scan(filter="name = 'film.mp4'").to_table()["content"][0]
    with client.open_blob(film) as file:  # a seekable file, read by ranges
        file.seek(1_000_000)
        assert file.read(16) == (folder / "film.mp4").read_bytes()[1_000_000:1_000_016]
    print("16 bytes out of the middle of a film")
