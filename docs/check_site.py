"""Checks a built site: every link inside it leads to a page and an anchor, and nothing is loaded from elsewhere."""

from __future__ import annotations

import html.parser
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Page(html.parser.HTMLParser):
    """The links, anchors and loaded things of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attributes}
        if "id" in found:
            self.anchors.add(found["id"])
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        elif tag == "link" and found.get("rel") not in {"canonical", "next", "prev"}:
            self.loaded.append(found.get("href", ""))
        elif tag in {"script", "img", "iframe", "source"}:
            self.loaded.append(found.get("src", ""))


def problems(site: Path) -> list[str]:
    """What is wrong, one sentence each."""
    pages = {path: Page(path.read_text("utf-8")) for path in site.rglob("*.html")}
    found = []
    for path, page in pages.items():
        where = path.relative_to(site)
        found += [f"{where} loads {url}" for url in page.loaded if urlsplit(url).netloc]
        for link in [*page.links, *filter(None, page.loaded)]:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc or path.name == "404.html":
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if target.is_dir():
                target /= "index.html"
            if not target.exists():
                found.append(f"{where} links to {link}, which is not there")
            elif parts.fragment and target in pages:
                anchors = pages[target].anchors
                if unquote(parts.fragment) not in anchors and not parts.fragment.startswith("__"):
                    found.append(f"{where} links to {link}, which has no such anchor")
    menu = Page((site / "index.html").read_text("utf-8")).links if pages else []
    for path in pages:
        name = path.relative_to(site).as_posix()
        if name not in {"404.html", "index.html"} and name not in menu:
            found.append(f"{name} is in no menu: name it in mkdocs.yml")
    if not pages:
        found.append(f"{site} has no pages")
    return found


if __name__ == "__main__":
    wrong = problems(Path(sys.argv[1]))
    print("\n".join(wrong))
    sys.exit(bool(wrong))
