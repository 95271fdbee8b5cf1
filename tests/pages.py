"""A report's page taken apart by the standard library's parser, as any reader of HTML would."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass, field
from html.parser import HTMLParser

import numpy as np
import numpy.typing as npt
from PIL import Image

_VOID = {"meta", "link", "img", "br", "input"}


@dataclass
class Element:
    """An element with its attributes, and in `content` its children and texts in order."""

    tag: str
    attributes: dict[str, str]
    content: list[Element | str] = field(default_factory=list)

    def all(self, *tags: str) -> list[Element]:
        """Descendants of these tags (none given: all), in order."""
        found = []
        for child in self.content:
            if isinstance(child, Element):
                found += [child] if child.tag in tags or not tags else []
                found += child.all(*tags)
        return found

    @property
    def text(self) -> str:
        """All texts within, on one line."""
        return " ".join("".join(part if isinstance(part, str) else f" {part.text} " for part in self.content).split())

    def section(self, slug: str) -> Element:
        """The section of that address."""
        (found,) = (section for section in self.all("section") if section.attributes["id"] == slug)
        return found

    def tables(self) -> list[list[dict[str, str]]]:
        """Every table within: its rows, the cells' texts by the column's heading."""
        return [_table(table) for table in self.all("table")]


class _Builder(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.root = Element("root", {})
        self.open = [self.root]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, {name: value or "" for name, value in attrs})
        self.open[-1].content.append(element)
        if tag not in _VOID:
            self.open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open[-1].content.append(Element(tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open[-1].tag == tag, f"</{tag}> closes <{self.open[-1].tag}>"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.open[-1].content.append(data)


def parse(html: str) -> Element:
    """The page; fails where an element is not closed."""
    builder = _Builder()
    builder.feed(html)
    builder.close()
    assert builder.open == [builder.root], f"<{builder.open[-1].tag}> is not closed"
    return builder.root


def pixels(picture: Element) -> npt.NDArray[np.uint8]:
    """The pixels [H, W, 3] of an `img` within the page."""
    head, _, data = picture.attributes["src"].partition(",")
    assert head in ("data:image/png;base64", "data:image/jpeg;base64")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"))


def _table(table: Element) -> list[dict[str, str]]:
    headings = [cell.text for cell in table.all("thead")[0].all("th")]
    rows = [[cell.text for cell in row.all("th", "td")] for row in table.all("tbody")[0].all("tr")]
    return [dict(zip(headings, row, strict=True)) for row in rows]
