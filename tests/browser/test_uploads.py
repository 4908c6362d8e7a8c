from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
from tests.browser.conftest import NASTY, Running, Visitor

ROWS = pa.table({"id": range(1000), "name": [f"n{n}" for n in range(1000)], "pt": ["a", "b"] * 500})


def parquet(path: Path) -> None:
    pa.parquet.write_table(ROWS, path)


def csv(path: Path) -> None:
    pa.csv.write_csv(ROWS, path)


def arrow(path: Path) -> None:
    with pa.ipc.new_stream(path, ROWS.schema) as writer:
        writer.write_table(ROWS)


@pytest.mark.parametrize(
    ("name", "write"), [("p.parquet", parquet), ("c.csv", csv), ("a.arrows", arrow)]
)
def test_a_file_becomes_a_table_and_is_appended(
    visitor: Visitor, server: Running, tmp_path: Path, name: str, write: Any
) -> None:
    path = tmp_path / name
    write(path)
    table = f"up_{name.partition('.')[2]}"
    page = visitor.page
    for times in (1, 2):
        visitor.go(f"/upload?table={table}")
        page.get_by_label("A file of Parquet").set_input_files(path)
        page.get_by_role("cell", name="id", exact=True).wait_for()
        if times == 1:
            page.get_by_label("Partition by").fill("pt")
            page.get_by_role("button", name="Create the table and fill it").click()
        else:
            assert "has 1,000 rows" in page.locator("[data-verdict]").inner_text()
            page.get_by_role("button", name="Append the rows").click()
        page.get_by_role("link", name="Look at them").wait_for()
        with server.connect() as client:
            assert client.table(table).count_rows() == 1000 * times
    page.get_by_role("link", name="Look at them").click()
    page.wait_for_url(f"**/{table}")
    assert page.get_by_role("link", name="Partitions").count() == 1


def test_dropping_a_file_shows_what_it_holds_and_what_does_not_fit(visitor: Visitor) -> None:
    visitor.go("/upload?table=people")
    page = visitor.page
    page.evaluate(
        """() => {
            const data = new DataTransfer();
            data.items.add(new File(["id,colour\\n1,red\\n"], "x.csv"));
            document.querySelector(".drop").dispatchEvent(
                new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true }));
        }"""
    )
    page.get_by_role("cell", name="not in the table").wait_for()
    assert page.locator("[data-go]").is_disabled()


def test_a_file_that_is_none_is_refused_with_its_reason(visitor: Visitor, tmp_path: Path) -> None:
    visitor.expects("400")
    path = tmp_path / "bad.parquet"
    path.write_bytes(b"PAR1" + b"x" * 100 + (20).to_bytes(4, "little") + b"PAR1")
    visitor.go("/upload")
    page = visitor.page
    page.get_by_label("A file of Parquet").set_input_files(path)
    page.locator("[data-status].problem").wait_for()
    assert "not readable as parquet" in page.locator("[data-status]").inner_text()


def test_names_of_files_and_columns_are_only_text(visitor: Visitor, tmp_path: Path) -> None:
    sink = io.BytesIO()
    pa.parquet.write_table(pa.table({NASTY: [1]}), sink)
    path = tmp_path / "<img src=x onerror=alert(1)>.parquet"
    path.write_bytes(sink.getvalue())
    visitor.go("/upload?table=nasty")
    visitor.page.get_by_label("A file of Parquet").set_input_files(path)
    visitor.page.locator("[data-found] tbody tr").wait_for()
    assert NASTY in visitor.page.locator("[data-found] tbody td").first.inner_text()
    assert visitor.page.locator("main img").count() == 0
    assert visitor.page.title() != "owned"
