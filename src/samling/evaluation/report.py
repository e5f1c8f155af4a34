"""Report: one HTML file from sections of text, tables and pictures, complete in itself.

Every text given here is escaped. Pictures are embedded, so the file can be sent to a colleague.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from samling.atomic import write_text


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str


@dataclass(frozen=True)
class Points:
    """A list of short texts."""

    items: tuple[str, ...]


@dataclass(frozen=True)
class Terms:
    """Names and what they mean."""

    items: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Command:
    """Something to type into a terminal, one line each."""

    lines: tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """Cells as text. Columns hold numbers and stand right, except those in `text_columns`.

    Args:
        strong: numbers of the rows that stand out, from 0.
    """

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str = ""
    strong: tuple[int, ...] = ()
    text_columns: tuple[int, ...] = (0,)


@dataclass(frozen=True)
class Picture:
    """A PNG or JPEG: the file's bytes, or its path. `alt` says in words what it shows."""

    data: bytes | Path
    alt: str
    caption: str = ""


@dataclass(frozen=True)
class Drawing:
    """An SVG made by our own code: it is embedded as it is, so it must escape its texts itself."""

    svg: str
    caption: str = ""


Block = Text | Points | Terms | Command | Table | Picture | Drawing


@dataclass(frozen=True)
class Section:
    """A heading and what stands under it."""

    title: str
    blocks: Sequence[Block]


def write_report(
    path: str | Path, title: str, lead: str, sections: Sequence[Section], *, footer: str = ""
) -> Path:
    """Write a self-contained HTML page, whole or not at all.

    Args:
        path: of the file to write.
        title: heading of the page.
        lead: the answer in one or two sentences.
        sections: those without blocks are left out.
        footer: small print.

    Returns:
        The path.
    """
    shown = [section for section in sections if section.blocks]
    write_text(path, _page(title, lead, shown, footer))
    return Path(path)


def _page(title: str, lead: str, sections: Sequence[Section], footer: str) -> str:
    links = "".join(
        f'<a href="#s{number}">{escape(section.title)}</a>'
        for number, section in enumerate(sections)
    )
    body = "".join(_section(number, section) for number, section in enumerate(sections))
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n"
        f'<header><h1>{escape(title)}</h1><p class="lead">{escape(lead)}</p>'
        f'<nav aria-label="Sections">{links}</nav></header>\n'
        f"{body}<footer>{escape(footer)}</footer>\n</main>\n</body>\n</html>\n"
    )


def _section(number: int, section: Section) -> str:
    blocks = "\n".join(_block(block) for block in section.blocks)
    return f'<section id="s{number}">\n<h2>{escape(section.title)}</h2>\n{blocks}\n</section>\n'


def _block(block: Block) -> str:
    match block:
        case Text(text):
            return f"<p>{escape(text)}</p>"
        case Points(items):
            return "<ul>" + "".join(f"<li>{escape(item)}</li>" for item in items) + "</ul>"
        case Terms(items):
            terms = "".join(f"<dt>{escape(a)}</dt><dd>{escape(b)}</dd>" for a, b in items)
            return f"<dl>{terms}</dl>"
        case Command(lines):
            return f"<pre><code>{escape(chr(10).join(lines))}</code></pre>"
        case Table():
            return _table(block)
        case Picture():
            return _picture(block)
        case Drawing(svg, caption):
            return f"<figure>{svg}{_caption(caption)}</figure>"


def _table(table: Table) -> str:
    def cells(tag: str, row: Sequence[str]) -> str:
        return "".join(
            f"<{tag}{'' if column in table.text_columns else ' class=n'}>{escape(cell)}</{tag}>"
            for column, cell in enumerate(row)
        )

    caption = f"<caption>{escape(table.caption)}</caption>" if table.caption else ""
    rows = "".join(
        f"<tr{' class=strong' if number in table.strong else ''}>{cells('td', row)}</tr>\n"
        for number, row in enumerate(table.rows)
    )
    return (
        f'<div class="scroll"><table>{caption}<thead><tr>{cells("th", table.header)}</tr></thead>\n'
        f"<tbody>{rows}</tbody></table></div>"
    )


def _picture(picture: Picture) -> str:
    data = picture.data.read_bytes() if isinstance(picture.data, Path) else picture.data
    kind = "png" if data.startswith(b"\x89PNG") else "jpeg"
    source = f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"
    image = f'<img src="{source}" alt="{escape(picture.alt)}">'
    return f"<figure>{image}{_caption(picture.caption)}</figure>"


def _caption(text: str) -> str:
    return f"<figcaption>{escape(text)}</figcaption>" if text else ""


_STYLE = """
:root{--paper:#fff;--ink:#1b1f24;--soft:#59626e;--line:#d9dee4;--tint:#f3f6f9;--accent:#0b62a8;
--strong:#e8f1fa;--model:#0b62a8;--other:#8a94a0}
@media (prefers-color-scheme:dark){:root{--paper:#14171b;--ink:#e6e9ed;--soft:#a3adb9;
--line:#343b44;--tint:#1d2228;--accent:#7fbdf2;--strong:#1c2f42;--model:#7fbdf2;--other:#8a94a0}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);
font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans","Liberation Sans",sans-serif}
main{max-width:62rem;margin:0 auto;padding:2.5rem 1.25rem 4rem}
h1{font-size:1.9rem;line-height:1.2;margin:0 0 .6rem;letter-spacing:-.01em}
h2{font-size:1.25rem;margin:2.8rem 0 .7rem;padding-top:.9rem;border-top:1px solid var(--line)}
.lead{font-size:1.12rem;max-width:46rem;margin:0 0 1rem}
nav{display:flex;flex-wrap:wrap;gap:.3rem 1.1rem;font-size:.92rem}
a{color:var(--accent);text-underline-offset:.15em}
p,ul,dl{max-width:46rem}li{margin:.25rem 0}
dt{font-weight:600;margin-top:.7rem}dd{margin:0;color:var(--soft)}
.scroll{overflow-x:auto;margin:1rem 0}
table{border-collapse:collapse;width:100%;font-size:.93rem;font-variant-numeric:tabular-nums}
caption{text-align:left;color:var(--soft);padding:0 0 .4rem}
th,td{text-align:left;padding:.42rem .7rem;border-bottom:1px solid var(--line);vertical-align:top}
th{font-weight:600;color:var(--soft);border-bottom-width:2px}
.n{text-align:right;white-space:nowrap}th.n{white-space:normal}
tr.strong td{background:var(--strong);font-weight:600}
figure{margin:1.2rem 0}img,svg{max-width:100%;height:auto;display:block;border-radius:4px}
img{background:#fff}
figcaption{color:var(--soft);font-size:.92rem;margin-top:.45rem;max-width:46rem}
pre{background:var(--tint);border:1px solid var(--line);border-radius:4px;padding:.7rem .9rem;
overflow-x:auto;font:.88rem/1.5 ui-monospace,Consolas,"Liberation Mono",monospace}
footer{margin-top:3rem;color:var(--soft);font-size:.85rem}
svg text{fill:var(--ink);font-size:13px}
svg .soft{fill:var(--soft)}svg .grid{stroke:var(--line)}
svg .model{fill:var(--model);stroke:var(--model)}svg .other{fill:var(--other);stroke:var(--other)}
@media print{h2{break-after:avoid}figure,tr{break-inside:avoid}nav{display:none}}
"""
