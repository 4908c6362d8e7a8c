"""Every page in every dress: accessible, light, and its picture for people to look at."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from tests.browser.conftest import PICTURES, Running, Visit, Visitor

TABLE = "/tables/demo/default/orders"
PAGES = {
    "tables": "/tables",
    "rows": TABLE,
    "row": f"{TABLE}/row?offset=77",
    "columns": f"{TABLE}/columns",
    "partitions": f"{TABLE}/partitions",
    "history": "/tables/demo/default/people/history?from=0&to=3",
    "restore": "/tables/demo/default/people/history?confirm=restore&version=1",
    "segments": f"{TABLE}/segments",
    "values": "/tables/demo/default/people",
    "blobs": "/tables/demo/default/pictures",
    "query": "/query?text=select%201",
    "upload": "/upload",
    "overview": "/overview",
    "requests": "/requests",
    "sessions": "/sessions",
    "storage": "/storage",
    "keys": "/keys",
    "settings": "/settings",
    "problem": "/tables/demo/default/nowhere",
}
DRESSES: dict[str, dict[str, Any]] = {
    "light": {"color_scheme": "light", "viewport": {"width": 1280, "height": 800}},
    "dark": {"color_scheme": "dark", "viewport": {"width": 1280, "height": 800}},
    "phone": {
        "color_scheme": "light",
        "viewport": {"width": 390, "height": 844},
        "device_scale_factor": 2,
        "has_touch": True,
        "is_mobile": True,
    },
}


def serious(page: Any) -> list[str]:
    """What axe finds that matters."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    result = axe.Axe().run(page).response["violations"]
    return [
        f"{each['id']} ({each['impact']}): {each['help']}: {[node['target'] for node in each['nodes']][:5]}"
        for each in result
        if each["impact"] in {"serious", "critical"}
    ]


def segment_of(visitor: Visitor, table: str) -> str:
    reply = visitor.context.request.get(
        f"{visitor.url}/console/tables/demo/default/{table}/segments?format=json"
    )
    return f"/tables/demo/default/{table}/segments/{reply.json()['listed'][0]['id']}"


@pytest.mark.parametrize("dress", DRESSES)
def test_pages_are_accessible_in_every_dress(visit: Visit, dress: str) -> None:
    visitor = visit(**DRESSES[dress])
    visitor.expects("404")
    pages = PAGES | {"segment": segment_of(visitor, "people")}
    wrong: dict[str, list[str]] = {}
    for name, path in pages.items():
        visitor.go(path)
        visitor.page.wait_for_load_state("networkidle")
        wrong[name] = serious(visitor.page)
        width = visitor.page.evaluate("document.documentElement.scrollWidth - innerWidth")
        if width > 0:
            wrong[name].append(f"{width} pixels wider than the window")
        visitor.picture(f"{name}-{dress}")
    assert {name: result for name, result in wrong.items() if result} == {}


@pytest.mark.parametrize("dress", DRESSES)
def test_signing_in_is_accessible(visit: Visit, dress: str) -> None:
    visitor = visit(signed_in=False, **DRESSES[dress])
    visitor.go("/sign-in")
    assert serious(visitor.page) == []
    visitor.picture(f"sign-in-{dress}")


@pytest.mark.parametrize("name", PAGES)
def test_pages_are_light_and_their_data_comes_with_them(visitor: Visitor, name: str) -> None:
    visitor.expects("404")
    page = visitor.page
    sizes: dict[str, int] = {}
    page.on("response", lambda reply: sizes.setdefault(reply.url, len(reply.body())))
    visitor.go(PAGES[name])
    page.wait_for_load_state("networkidle")
    document = sizes[page.url]
    assert document < 100_000
    whole = sum(size for url, size in sizes.items() if "/fletching/v1/blobs/" not in url)
    assert whole < 150_000  # with the style and all scripts, which are kept
    # Nothing of what the page shows was asked for by a script.
    assert not [url for url in sizes if "format=json" in url or "/names" in url]


def test_the_keyboard_is_enough(visitor: Visitor) -> None:
    page = visitor.page
    visitor.go("/tables")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "content"
    reached = set()
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.innerText"))
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline != "none"
        if "orders" in reached:
            break
    page.keyboard.press("Enter")
    page.wait_for_url(f"**{TABLE}")
    page.keyboard.press("n")
    page.wait_for_url("**offset=100")


def test_a_page_of_rows_comes_at_once_wherever_it_is(visitor: Visitor, server: Running) -> None:
    """Measured, not judged: the report is for people, since machines differ."""
    get = visitor.context.request.get
    result: dict[str, float] = {}
    for offset in (0, 500_000, 999_900):
        address = f"{server.url}/console{TABLE}?offset={offset}"
        get(address)
        times = []
        for _ in range(9):
            started = time.perf_counter()
            assert get(address).status == 200
            times.append(time.perf_counter() - started)
        result[str(offset)] = round(1000 * sorted(times)[4], 1)
    print("milliseconds for a page of rows:", json.dumps(result))


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("console-rows", TABLE),
        ("console-blobs", "/tables/demo/default/pictures"),
        ("console-overview", "/overview"),
    ],
)
def test_pictures_of_the_documentation(visit: Visit, name: str, path: str) -> None:
    """Drawn anew by every run; ``make docs-pictures`` keeps them."""
    visitor = visit(color_scheme="light", viewport={"width": 1160, "height": 700})
    visitor.go(path)
    visitor.page.wait_for_load_state("networkidle")
    PICTURES.mkdir(parents=True, exist_ok=True)
    target = PICTURES / f"{name}.png"
    visitor.page.screenshot(path=target)
    assert 5_000 < target.stat().st_size < 150_000
