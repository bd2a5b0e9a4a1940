"""Parts of one self-contained HTML page: texts escaped, charts inline, light and dark, nothing loaded, no script."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from convexnn.pages.svg import Chart

Array = NDArray[np.float64]
#: A histogram on common edges: counts, CSS class, name.
Stack = tuple[NDArray[np.intp], str, str]

#: Curves of methods have so many colors; further ones begin again.
COLORS = 5
BINS = 24

TRUTHS = (
    "The gap is of one convex program, with these activation patterns: it says how far the program's own "
    "objective is from its optimum, not how far training as a whole is.",
    "An attack is a lower bound on the worst case and a certificate is an upper bound: the truth lies between the two.",
    "A certificate is about the real-valued network that the stored weights define; inference in float32 "
    "computes a slightly different function.",
)

#: Notes that belong to every report of verdicts.
MEANINGS = (
    (
        "certified",
        "No perturbation within the radius changes the prediction from the label: proved by a bound on the margin "
        "that is recomputed from its multipliers, rounding included.",
    ),
    (
        "falsified",
        "A perturbed input was found that lies in the set and is misclassified; its outputs were evaluated again.",
    ),
    ("unknown", "Neither: the attack found nothing and the bound is not below zero. The truth is one of the two."),
)

STYLE = """
:root { color-scheme: light dark; --page: #fbfbfa; --card: #ffffff; --ink: #1d1f21; --soft: #5b6066; --line: #e2e3e5;
  --clean: #8a8f96; --attack: #c8452e; --band: rgba(120, 128, 138, .16); --m0: #0072b2; --m1: #009e73; --m2: #b07aa1;
  --m3: #e69f00; --m4: #56b4e9; --certified: #009e73; --unknown: #b9bec5; }
@media (prefers-color-scheme: dark) { :root { --page: #141618; --card: #1c1f22; --ink: #e8eaec; --soft: #a3a9b0;
  --line: #33383d; --clean: #8f969e; --attack: #ff7a5f; --band: rgba(160, 170, 180, .16); --m0: #5db4ea; --m1: #35c99a;
  --m2: #d6a4c8; --m3: #f3bd4f; --m4: #8ed1f5; --certified: #35c99a; --unknown: #5c636b; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 66rem; padding: 2rem 1.25rem 4rem; background: var(--page); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
h1 { font-size: 1.75rem; line-height: 1.2; margin: 0 0 .35rem; } h2 { font-size: 1.2rem; margin: 2.4rem 0 .5rem; }
h3 { font-size: 1rem; margin: 0 0 .3rem; } p { margin: .35rem 0; max-width: 46rem; } .lead { color: var(--soft); }
.cards { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fill, minmax(min(100%, 24rem), 1fr));
margin: .8rem 0; } figure { margin: 0; padding: 1rem 1rem .7rem; background: var(--card); border: 1px solid var(--line);
border-radius: 10px; } figcaption { color: var(--soft); font-size: .85rem; margin-top: .3rem; }
svg { display: block; width: 100%; height: auto; font: 12px system-ui, sans-serif; } svg text { fill: var(--ink); }
svg .tick, svg .name, svg .word { fill: var(--soft); } .grid { stroke: var(--line); } .axis { stroke: var(--soft); }
.rule { stroke: var(--soft); stroke-dasharray: 3 3; } .line { fill: none; stroke-width: 2; stroke-linejoin: round; }
.band { fill: var(--band); } .line.clean { stroke: var(--clean); stroke-dasharray: 2 4; }
.line.attack { stroke: var(--attack); stroke-width: 4.5; } .dot.attack, .bar.attack { fill: var(--attack); }
.dot.certified { fill: var(--certified); } .dot.unknown { fill: var(--unknown); }
.bar.certified { fill: var(--certified); } .bar.unknown { fill: var(--unknown); }
.line.m0 { stroke: var(--m0); } .dot.m0, .bar.m0 { fill: var(--m0); } .line.m1 { stroke: var(--m1); stroke-dasharray: 8
3; } .dot.m1, .bar.m1 { fill: var(--m1); } .line.m2 { stroke: var(--m2); stroke-dasharray: 2 2; }
.dot.m2, .bar.m2 { fill: var(--m2); } .line.m3 { stroke: var(--m3); stroke-dasharray: 10 3 2 3; }
.dot.m3, .bar.m3 { fill: var(--m3); } .line.m4 { stroke: var(--m4); stroke-dasharray: 5 5; } .dot.m4, .bar.m4 { fill:
var(--m4); } .legend { display: flex; flex-wrap: wrap; gap: .3rem 1.1rem; list-style: none; margin: .5rem 0; padding: 0;
font-size: .9rem; } .legend svg { display: inline-block; width: 34px; height: 10px; vertical-align: middle;
margin-right: .4rem; } .scroll { overflow-x: auto; } table { border-collapse: collapse; font-size: .88rem; margin: .5rem
0; min-width: min(100%, 28rem); } caption { text-align: left; color: var(--soft); padding-bottom: .3rem; }
th, td { padding: .3rem .7rem; text-align: right;
  border-bottom: 1px solid var(--line); white-space: nowrap; font-variant-numeric: tabular-nums; }
th { font-weight: 600; vertical-align: bottom; white-space: pre-line; } .text { text-align: left; }
td.text { white-space: normal; min-width: 7rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .35rem 1.2rem; margin: .5rem 0; max-width: 56rem; }
dt { font-weight: 600; } dd { margin: 0; overflow-wrap: anywhere; } li { max-width: 52rem; margin: .25rem 0; }
@media print { body { max-width: none; } figure, table { break-inside: avoid; } }
"""


def document(title: str, sections: Iterable[str]) -> str:
    """A whole page; the title is text, the sections are HTML.

    Returns
    -------
    str
        Ends with a line break; the same sections give the same text.
    """
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta name="color-scheme" content="light dark"><title>{escape(title)}</title><style>{STYLE}</style>'
    )
    body = "\n".join(sections)
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>{head}</head>\n<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n'
    )


def written(text: str, path: str | os.PathLike[str]) -> Path:
    """Write a page and return its path."""
    target = Path(path)
    target.write_text(text, encoding="utf-8")
    return target


def heading(title: str, lead: str) -> str:
    """The title of the page and the sentence below it."""
    return f'<h1>{escape(title)}</h1>\n<p class="lead">{escape(lead)}</p>'


def pairs(entries: Iterable[tuple[str, str]]) -> str:
    """Words and what they stand for."""
    return "<dl>" + "".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in entries) + "</dl>"


def bullets(sentences: Iterable[str]) -> str:
    """A list of sentences."""
    return "<ul>" + "".join(f"<li>{escape(sentence)}</li>" for sentence in sentences) + "</ul>"


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]], notes: Sequence[str] = ()) -> str:
    """A table; columns of words stand on the left, numbers on the right, None is a dash."""
    words = [all(_is_word(row[j]) for row in rows) for j in range(len(columns))]
    kinds = [' class="text"' if word else "" for word in words]
    head = "".join(f'<th scope="col"{kind}>{escape(label)}</th>' for label, kind in zip(columns, kinds, strict=True))
    lines = []
    for row in rows:
        cells = ["&ndash;" if cell is None else escape(str(cell)) for cell in row]
        lines.append("<tr>" + "".join(f"<td{kind}>{c}</td>" for c, kind in zip(cells, kinds, strict=True)) + "</tr>")
    below = "".join(f'<p class="lead">{escape(note)}</p>' for note in notes)
    content = f"<caption>{escape(title)}</caption><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody>"
    return f'<div class="scroll"><table>{content}</table></div>{below}'


def _is_word(cell: object) -> bool:
    try:
        float(str(cell).removesuffix("%"))
    except ValueError:
        return cell is not None
    return False


def cards(figures: Iterable[str]) -> str:
    """Figures side by side, as many as there is room for."""
    return '<div class="cards">' + "".join(figures) + "</div>"


def figure(title: str, chart: Chart, caption: str) -> str:
    """A chart with its title and what it says."""
    return f"<figure><h3>{escape(title)}</h3>{chart}<figcaption>{escape(caption)}</figcaption></figure>"


def line_key(kind: str) -> str:
    """The mark of a curve, for :func:`keys`."""
    return f'<line class="line {escape(kind)}" x1="1" x2="33" y1="5" y2="5"/>'


def bar_key(kind: str) -> str:
    """The mark of a bar, for :func:`keys`."""
    return f'<rect class="bar {escape(kind)}" width="34" height="10"/>'


def keys(entries: Iterable[tuple[str, str]]) -> str:
    """A legend: marks and their words."""
    small = '<svg viewBox="0 0 34 10" aria-hidden="true">'
    items = [f"<li>{small}{mark}</svg>{escape(text)}</li>" for mark, text in entries]
    return f'<ul class="legend">{"".join(items)}</ul>'


def bars(chart: Chart, edges: Array, stacks: Sequence[Stack]) -> None:
    """Stacked histograms on common edges."""
    base = np.zeros(len(edges) - 1)
    for counts, kind, name in stacks:
        for b, count in enumerate(counts.tolist()):
            title = f"{name}: {count} in [{edges[b]:.3g}, {edges[b + 1]:.3g}]"
            chart.bar(float(edges[b]), float(edges[b + 1]), float(base[b]), float(base[b] + count), kind, title)
        base = base + counts


def edges_at_zero(values: Array) -> Array:
    """Edges of about BINS equal bins; zero is one of them where values have both signs."""
    low, high = float(values.min()), float(values.max())
    width = (high - low) / BINS
    if not low < 0 < high or width < 1e-12 * max(-low, high):
        return np.histogram_bin_edges(values, BINS)
    first, last = int(np.floor(low / width)), int(np.floor(high / width)) + 1
    return width * np.arange(first, last + 1, dtype=np.float64)


def margin_chart(values: Array, certified: NDArray[np.bool_], label: str, height: float = 220) -> tuple[Chart, str]:
    """Margins under attack by what is known of their samples, and the counts in words.

    Parameters
    ----------
    values : array, shape (n,)
        Largest margin that an attack reached, negative where the prediction held.
    certified : bool array, shape (n,)
    label : str
        For screen readers.
    height : float
        Of the chart.
    """
    edges = edges_at_zero(values)
    falsified = values >= 0
    kinds = [("certified", certified), ("unknown", ~certified & ~falsified), ("falsified", falsified)]
    classes = {"falsified": "attack"}
    stacks = [(np.histogram(values[mask], edges)[0], classes.get(kind, kind), kind) for kind, mask in kinds]
    tallest = max(1.0, float(np.sum([counts for counts, _, _ in stacks], axis=0).max()))
    ranges = (float(edges[0]), float(edges[-1])), (0.0, 1.08 * tallest)
    chart = Chart(*ranges, label, "margin under attack", "samples", height=height)
    bars(chart, edges, stacks)
    if edges[0] < 0 < edges[-1]:
        chart.rule(0.0, "misclassified")
    return chart, ", ".join(f"{int(mask.sum())} {kind}" for kind, mask in kinds) + "."
