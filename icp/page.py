"""One self-contained HTML page: sections, tables and plots in one file, with nothing to fetch.

Whatever is not marked as `Html` is escaped.
"""

import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


class Html(str):
    """Text that is HTML already; notebooks show it as it reads."""

    def _repr_html_(self) -> str:
        return str(self)


@dataclass(frozen=True)
class Section:
    """A heading, its name in links, and what stands under it."""

    anchor: str
    title: str
    body: Html


@dataclass(frozen=True)
class Cell:
    """A number in a table: as it reads, and in full."""

    shown: str
    value: float


def safe(content: Any) -> Html:
    """`content` as HTML: unchanged where it is `Html`, else escaped."""
    return content if isinstance(content, Html) else Html(html.escape(str(content), quote=True))


def element(tag: str, *content: Any, **attributes: Any) -> Html:
    """One element; `class_` stands for the attribute `class`, and underscores in names for hyphens."""
    given = "".join(f' {n.rstrip("_").replace("_", "-")}="{safe(v)}"' for n, v in attributes.items() if v is not None)
    return Html(f"<{tag}{given}>{joined(content)}</{tag}>")


def joined(content: Sequence[Any]) -> Html:
    """Everything one after the other."""
    return Html("".join(safe(part) for part in content))


def paragraph(*content: Any, class_: str | None = None) -> Html:
    return element("p", *content, class_=class_)


def table(head: Sequence[Any], rows: Sequence[Sequence[Any]], class_: str | None = None) -> Html:
    """A table that scrolls sideways where the screen is too narrow; a row with one entry is a heading across it.

    Columns that hold a `Cell` are set flush right.
    """
    numeric = {i for row in rows for i, entry in enumerate(row) if isinstance(entry, Cell)}

    def cell(tag: str, index: int, entry: Any) -> Html:
        name = "number" if index in numeric else None
        if isinstance(entry, Cell):
            return element(tag, entry.shown, class_=name, data_value=repr(float(entry.value)))
        return element(tag, entry, class_=name)

    body = []
    for row in rows:
        if len(row) == 1 and len(head) > 1:
            body.append(element("tr", element("th", row[0], colspan=len(head), scope="colgroup"), class_="group"))
        else:
            body.append(element("tr", *(cell("td", i, entry) for i, entry in enumerate(row))))
    header = element("tr", *(cell("th", i, entry) for i, entry in enumerate(head)))
    whole = element("table", element("thead", header), element("tbody", *body), class_=class_)
    return element("div", whole, class_="scroll")


def folded(summary: Any, *content: Any) -> Html:
    """What opens on a click."""
    return element("details", element("summary", summary), *content)


def plot(name: str, figure: Any, caption: Any = "") -> Html:
    """A plotly figure, drawn by the page's one copy of plotly.js when the page opens."""
    data = Html(figure.to_json().replace("<", "\\u003c"))
    height = f"min-height:{int(figure.layout.height)}px"
    return element(
        "figure",
        element("div", id=f"plot-{name}", class_="plot", style=height),
        Html(f'<script type="application/json" id="plot-{name}-data">{data}</script>'),
        element("figcaption", caption) if caption else "",
    )


def page(title: str, subtitle: Any, sections: Sequence[Section]) -> str:
    """The whole file. plotly.js goes in once, and only where there is a plot."""
    links = (element("li", element("a", section.title, href=f"#{section.anchor}")) for section in sections)
    contents = element("nav", element("ol", *links), aria_label="Contents")
    body = (element("section", element("h2", section.title), section.body, id=section.anchor) for section in sections)
    whole = element(
        "main", element("header", element("h1", title), element("p", subtitle, class_="subtitle")), contents, *body
    )
    scripts = _scripts() if 'class="plot"' in whole else ""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{safe(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n{whole}\n{scripts}</body>\n</html>\n"
    )


def _scripts() -> str:
    from icp.plots import plotly_js

    return f"<script>{plotly_js()}</script>\n<script>{DRAW}</script>\n"


DRAW = """
for (const div of document.querySelectorAll(".plot")) {
  const figure = JSON.parse(document.getElementById(div.id + "-data").textContent);
  const options = {responsive: true, displayModeBar: false};
  Plotly.newPlot(div, figure.data, figure.layout, options);
}
"""

STYLE = """
:root { color-scheme: light; --ink: #1f2430; --soft: #5a6270; --line: #dfe3e8; --pale: #f5f6f8; --link: #1d5a94; }
* { box-sizing: border-box; }
body { margin: 0; background: white; color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
main { max-width: 1040px; margin: 0 auto; padding: 40px 28px 80px; }
h1 { font-size: 2rem; line-height: 1.2; margin: 0 0 6px; letter-spacing: -0.01em; }
h2 { font-size: 1.35rem; line-height: 1.3; margin: 0 0 10px; letter-spacing: -0.005em; }
h3 { font-size: 1rem; margin: 26px 0 6px; }
p { margin: 8px 0; max-width: 47rem; }
.subtitle { color: var(--soft); margin: 0; max-width: none; }
section { margin-top: 44px; padding-top: 22px; border-top: 1px solid var(--line); }
a { color: var(--link); text-decoration: none; }
a:hover { text-decoration: underline; }
code, .address { font: 0.88em/1.4 ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace;
  overflow-wrap: anywhere; }
nav { margin-top: 22px; font-size: 0.95rem; }
nav ol { display: flex; flex-wrap: wrap; gap: 4px 22px; margin: 0; padding: 0; list-style: none; }
ul { margin: 8px 0; padding-left: 1.3em; max-width: 47rem; }
figure { margin: 18px 0 8px; }
figcaption { color: var(--soft); font-size: 0.9rem; max-width: 47rem; margin-top: 4px; }
.warning { border-left: 4px solid #b35806; background: #fdf4ea; padding: 8px 14px; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(165px, 1fr)); gap: 14px; margin: 16px 0 20px; }
.tile { background: var(--pale); border-radius: 6px; padding: 14px 16px; }
.tile b { display: block; font-size: 1.75rem; line-height: 1.2; font-weight: 600; font-variant-numeric: tabular-nums; }
.tile small { font-size: 0.5em; font-weight: 400; }
.tile span { display: block; font-size: 0.9rem; }
.tile span + span { color: var(--soft); font-size: 0.85rem; }
.scroll { overflow-x: auto; margin: 14px 0; }
table { border-collapse: collapse; font-size: 0.92rem; font-variant-numeric: tabular-nums; min-width: 60%; }
th, td { text-align: left; padding: 5px 14px 5px 0; border-bottom: 1px solid var(--line); vertical-align: top; }
thead th { color: var(--soft); font-weight: 600; border-bottom: 1.5px solid #b9c0c9; vertical-align: bottom; }
tr.group th { padding-top: 16px; font-weight: 600; border-bottom: 1px solid var(--line); }
th.number, td.number { text-align: right; padding-left: 14px; }
td.number { white-space: nowrap; }
td .address { overflow-wrap: normal; }
.facts td:first-child { color: var(--soft); white-space: nowrap; }
details { margin: 10px 0; }
summary { cursor: pointer; color: var(--link); font-size: 0.95rem; }
.beside { display: flex; flex-wrap: wrap; gap: 10px 32px; align-items: center; }
.beside > figure { flex: 1 1 480px; min-width: 0; max-width: 600px; } .beside > .scroll { flex: 1 1 300px; }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(330px, 100%), 1fr)); gap: 8px 32px; }
h3 small { display: block; font-weight: 400; font-size: 0.85em; color: var(--soft); }
mark { background: #ffe9a8; color: inherit; padding: 1px 3px; border-radius: 3px; }
mark small { margin-left: 4px; color: var(--soft); }
.examples td:first-child { min-width: 19rem; }
.note { color: var(--soft); font-size: 0.9rem; }
.tokens { line-height: 2; font-size: 0.95rem; overflow-wrap: anywhere; }
.tokens span { white-space: pre-wrap; padding: 3px 1px; border-radius: 3px; box-shadow: inset 0 0 0 0.5px #ffffff; }
.tokens span.cue { box-shadow: inset 0 0 0 1.5px var(--ink); padding: 3px 3px; }
.pairs { width: 100%; table-layout: fixed; } .pairs th:first-child { width: 24%; }
.pairs td { white-space: pre-wrap; overflow-wrap: anywhere; }
del, ins { padding: 1px 2px; border-radius: 3px; text-decoration: none; }
del { background: #fbe0d3; text-decoration: line-through; } ins { background: #d5e8f6; font-weight: 600; }
del:empty, ins:empty { border-left: 2px solid #b35806; padding: 0; margin: 0 1px; } ins:empty { border-color: #1d5a94; }
.pictures { display: flex; flex-wrap: wrap; gap: 10px 6px; margin-top: 8px; }
.picture image { image-rendering: pixelated; } .picture image.grey { filter: grayscale(1); opacity: 0.35; }
.picture rect.cue { fill: none; stroke: var(--ink); } .picture circle.token { stroke: var(--soft); }
.legend { display: inline-flex; align-items: center; gap: 8px; color: var(--soft); font-size: 0.85rem; }
.legend i { display: inline-block; width: 120px; height: 11px; border: 1px solid var(--line); border-radius: 2px; }
.tokens span, .picture, .legend i, .tile, .warning, mark, del, ins, .graph { -webkit-print-color-adjust: exact;
  print-color-adjust: exact; }
@media (min-width: 901px) { td .address { white-space: nowrap; } td .address wbr { display: none; } }
@media (max-width: 900px) { table { font-size: 0.85rem; } th, td { padding-right: 8px; }
  th.number, td.number { padding-left: 8px; } }
@media (max-width: 640px) { main { padding: 24px 16px 60px; } h1 { font-size: 1.6rem; } }
@media print {
  main { max-width: none; padding: 0; } nav, .modebar { display: none !important; }
  section { border-top: none; margin-top: 24px; } figure, tr, .card, .picture, .tile { break-inside: avoid; }
  h2, h3 { break-after: avoid; } html { font-size: 13px; } body { font-size: 1rem; }
}
"""
