"""The HTML page: complete in itself, escaped, well formed."""

import re
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from samling.evaluation import report
from samling.evaluation.report import Section, write_report

VOID = {"meta", "img", "br", "hr", "link"}
PNG = cv2.imencode(".png", np.zeros((4, 4), np.uint8))[1].tobytes()


class Page(HTMLParser):
    """Collects tags, attributes and text; complains about tags that don't match."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict]] = []
        self.text = ""
        self.feed(html)
        assert not self.open

    def handle_starttag(self, tag, attrs) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data) -> None:
        if self.open and self.open[-1] != "style":
            self.text += data


def everything(text: str) -> list[Section]:
    blocks = [
        report.Text(text),
        report.Points((text, text)),
        report.Terms(((text, text),)),
        report.Command((text,)),
        report.Table((text, "n"), ((text, "1"),), caption=text, strong=(0,)),
        report.Picture(PNG, alt=text, caption=text),
        report.Drawing("<svg></svg>", caption=text),
    ]
    return [Section(text, blocks)]


def page(path: Path, text: str) -> str:
    return write_report(path, text, text, everything(text), footer=text).read_text(encoding="utf-8")


def test_hostile_text_stays_text(tmp_path: Path) -> None:
    hostile = "<script>alert('x')</script><img src=x onerror=\"y\"> & ü"
    parsed = Page(page(tmp_path / "r.html", hostile))
    assert not [tag for tag, _ in parsed.seen if tag == "script"]
    assert not [attrs for _, attrs in parsed.seen if "onerror" in attrs]
    assert parsed.text.count(hostile) >= 12
    (image,) = [attrs for tag, attrs in parsed.seen if tag == "img"]
    assert image["alt"] == hostile


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=30))
def test_any_text_is_well_formed(tmp_path_factory, text: str) -> None:
    Page(page(tmp_path_factory.mktemp("r") / "r.html", text))


def test_nothing_is_loaded_from_elsewhere(tmp_path: Path) -> None:
    html = page(tmp_path / "r.html", "text")
    sources = [a for _, attrs in Page(html).seen for k, a in attrs.items() if k in ("src", "href")]
    assert sources and all(s.startswith(("data:image/png;base64,", "#")) for s in sources)
    assert not re.search(r"@import|url\(|https?:", html)


def test_links_lead_to_sections_and_empty_sections_are_left_out(tmp_path: Path) -> None:
    sections = [Section("one", [report.Text("a")]), Section("none", []), *everything("three")]
    parsed = Page(write_report(tmp_path / "r.html", "t", "l", sections).read_text("utf-8"))
    links = [attrs["href"] for tag, attrs in parsed.seen if tag == "a"]
    targets = ["#" + attrs["id"] for tag, attrs in parsed.seen if tag == "section"]
    assert links == targets and len(links) == 2
    assert "none" not in parsed.text


def test_pictures_come_from_files_too(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(PNG)
    for data in (PNG, tmp_path / "a.png"):
        sections = [Section("s", [report.Picture(data, "alt")])]
        path = write_report(tmp_path / "r.html", "t", "l", sections)
        assert "data:image/png;base64,iVBOR" in path.read_text(encoding="utf-8")


def test_light_and_dark(tmp_path: Path) -> None:
    html = page(tmp_path / "r.html", "text")
    assert "prefers-color-scheme:dark" in html and 'content="light dark"' in html
