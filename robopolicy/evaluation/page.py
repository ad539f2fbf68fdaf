"""One self-contained HTML page: inline style, pictures and videos as data URIs, nothing from the network."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from string import Template

from robopolicy.evaluation import colours
from robopolicy.files import write_text


@dataclass(frozen=True)
class Section:
    """A heading and the HTML below it."""

    title: str
    body: str


def write_report(folder: Path, *sections: Section, title: str, head: str = "", name: str = "report.html") -> Path:
    """Writes `folder/name` in one step: a reader sees the old page or the new one.

    Args:
        title: plain text, also the browser tab's.
        head: HTML between the title and the first section, such as `headline` makes.
    """
    body = "\n".join(f"<section><h2>{escape(s.title)}</h2>\n{s.body}</section>" for s in sections)
    path = folder / name
    write_text(path, _PAGE.substitute(title=escape(title), style=_style(), head=head, body=body))
    return path


def paragraph(text: str) -> str:
    """Plain text as one paragraph."""
    return f"<p>{escape(text)}</p>"


def table(rows: Mapping[str, object]) -> str:
    """Two columns: a name and its value."""
    cells = "".join(f"<tr><th>{escape(key)}</th><td>{escape(str(value))}</td></tr>" for key, value in rows.items())
    return f'<table class="pairs">{cells}</table>'


def grid_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table with a header; its last column is quieter: an explanation."""
    top = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    lines = "".join("<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<table class="grid"><thead><tr>{top}</tr></thead><tbody>{lines}</tbody></table>'


def picture(svg: bytes, caption: str) -> str:
    """A figure with a caption that is also its text for screen readers."""
    text = escape(caption, quote=True)
    return f'<figure><img alt="{text}" src="{_uri("image/svg+xml", svg)}"><figcaption>{text}</figcaption></figure>'


def video(mp4: bytes, caption: str, *, good: bool) -> str:
    """A video with controls; the caption's mark says how it ended."""
    mark = "good" if good else "bad"
    return (
        f'<figure class="video {mark}"><video controls loop muted playsinline preload="auto" '
        f'src="{_uri("video/mp4", mp4)}"></video><figcaption>{escape(caption)}</figcaption></figure>'
    )


def gallery(figures: Sequence[str]) -> str:
    """Figures side by side, as many as fit."""
    return f'<div class="gallery">{"".join(figures)}</div>'


def headline(
    number: str, what: str, explanation: str, band: tuple[float, float, float], facts: Mapping[str, str]
) -> str:
    """The number that matters, large, its interval as a band on a scale from 0 to 1, and a few smaller facts.

    Args:
        band: low, estimate and high, each 0 to 1.
        facts: small heading to value.
    """
    low, middle, high = (100 * min(max(end, 0.0), 1.0) for end in band)
    cards = "".join(f"<div><dt>{escape(key)}</dt><dd>{escape(value)}</dd></div>" for key, value in facts.items())
    return (
        f'<div class="headline"><div><p class="number">{escape(number)}</p><p class="what">{escape(what)}</p></div>'
        f'<div class="scale"><div class="track"><i style="left:{low:.2f}%;width:{high - low:.2f}%"></i>'
        f'<b style="left:{middle:.2f}%"></b></div><div class="ends"><span>0 %</span><span>50 %</span>'
        f"<span>100 %</span></div><p>{escape(explanation)}</p></div></div>"
        f'<dl class="facts">{cards}</dl>'
    )


def _uri(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"


def _style() -> str:
    names = {
        "ink": colours.INK,
        "muted": colours.MUTED,
        "line": colours.LINE,
        "accent": colours.ACCENT,
        "good": colours.SUCCESS,
        "bad": colours.FAILURE,
    }
    variables = " ".join(f"--{name}: {colour};" for name, colour in names.items())
    return f"\n:root {{ {variables} }}{_RULES}"


_RULES = """
* { box-sizing: border-box; }
body { margin: 0; background: #f4f6f7; color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "DejaVu Sans", sans-serif; }
main { max-width: 1040px; margin: 0 auto; padding: 36px 44px 60px; background: white; min-height: 100vh; }
h1 { font-size: 1.5rem; font-weight: 650; margin: 0 0 1.2rem; letter-spacing: -0.01em; }
h2 { font-size: 1.12rem; font-weight: 650; margin: 2.4rem 0 0.7rem; padding-top: 1.3rem;
  border-top: 1px solid var(--line); }
p { margin: 0.4rem 0 0.8rem; max-width: 46rem; }
.headline { display: flex; flex-wrap: wrap; gap: 1.2rem 3.2rem; align-items: center; }
.number { font-size: 4.6rem; line-height: 1; font-weight: 680; margin: 0; letter-spacing: -0.03em;
  font-variant-numeric: tabular-nums; white-space: nowrap; }
.what { color: var(--muted); margin: 0.5rem 0 0; }
.scale { flex: 1 1 340px; }
.scale p { margin: 0.5rem 0 0; color: var(--muted); font-size: 0.92rem; }
.track { position: relative; height: 14px; border-radius: 7px; background: #e9edf0; margin-top: 6px; }
.track i { position: absolute; top: 0; bottom: 0; border-radius: 7px; background: #9dbadb; }
.track b { position: absolute; top: -5px; bottom: -5px; width: 4px; margin-left: -2px; border-radius: 2px;
  background: var(--accent); }
.ends { display: flex; justify-content: space-between; color: var(--muted); font-size: 0.78rem; margin-top: 5px; }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(200px, 1fr)); gap: 0.9rem 1.6rem;
  margin: 1.9rem 0 0; padding: 1.1rem 0 0; border-top: 1px solid var(--line); }
.facts dt { color: var(--muted); font-size: 0.82rem; }
.facts dd { margin: 0.15rem 0 0; font-size: 1.05rem; font-weight: 600; font-variant-numeric: tabular-nums; }
table { border-collapse: collapse; font-size: 0.93rem; }
th, td { text-align: left; vertical-align: top; padding: 0.34rem 1.6rem 0.34rem 0;
  border-bottom: 1px solid var(--line); }
table.pairs { width: 100%; }
table.pairs th { font-weight: 500; color: var(--muted); width: 13rem; }
table.pairs td { overflow-wrap: anywhere; font-variant-numeric: tabular-nums; }
table.grid thead th { font-weight: 500; color: var(--muted); font-size: 0.85rem; }
table.grid td { font-variant-numeric: tabular-nums; }
table.grid td:last-child { color: var(--muted); }
figure { margin: 0.6rem 0 1.2rem; break-inside: avoid; }
figure img, figure video { display: block; width: 100%; height: auto; }
figcaption { color: var(--muted); font-size: 0.87rem; margin-top: 0.4rem; max-width: 52rem; }
.gallery { display: grid; grid-template-columns: repeat(auto-fill, minmax(220px, 1fr)); gap: 1rem 1.2rem; }
.video video { border-radius: 6px; background: #e9edf0; }
.video figcaption::before { content: "\\25CF"; margin-right: 0.45em; }
.video.good figcaption::before { color: var(--good); }
.video.bad figcaption::before { color: var(--bad); }
@media (max-width: 640px) {
  main { padding: 22px 18px; }
  .number { font-size: 3.4rem; }
  table.pairs th { width: 8rem; }
}
@media print {
  @page { size: A4; margin: 14mm; }
  body { background: white; font-size: 10.5pt; }
  main { padding: 0; max-width: none; }
  h2 { break-after: avoid; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
"""

_PAGE = Template(
    """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>$style</style>
</head>
<body><main>
<h1>$title</h1>
$head
$body
</main></body>
</html>
"""
)
