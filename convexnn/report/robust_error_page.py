"""One self-contained HTML page about robust errors: every text escaped, charts inline, light and dark, no script."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from convexnn.decimals import DOWN, UP, share_written
from convexnn.report.sheet import Sheet
from convexnn.report.stages import TRUTHS
from convexnn.report.svg import Chart

if TYPE_CHECKING:
    from convexnn.report.robust_error import RobustErrorReport

Array = NDArray[np.float64]

#: Curves of methods have so many colors; further ones begin again.
COLORS = 5
BINS = 24

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
.bar.certified { fill: var(--certified); } .bar.unknown { fill: var(--unknown); }
.line.m0 { stroke: var(--m0); } .dot.m0, .bar.m0 { fill: var(--m0); } .line.m1 { stroke: var(--m1); stroke-dasharray: 8
3; } .dot.m1, .bar.m1 { fill: var(--m1); } .line.m2 { stroke: var(--m2); stroke-dasharray: 2 2; }
.dot.m2, .bar.m2 { fill: var(--m2); } .line.m3 { stroke: var(--m3); stroke-dasharray: 10 3 2 3; }
.dot.m3, .bar.m3 { fill: var(--m3); } .line.m4 { stroke: var(--m4); stroke-dasharray: 5 5; } .dot.m4, .bar.m4 { fill:
var(--m4); } .legend { display: flex; flex-wrap: wrap; gap: .3rem 1.1rem; list-style: none; margin: .5rem 0; padding: 0;
font-size: .9rem; } .legend svg { display: inline-block; width: 34px; height: 10px; vertical-align: middle;
margin-right: .4rem; } .scroll { overflow-x: auto; } table { border-collapse: collapse; font-size: .88rem; margin: .5rem
0; min-width: 100%; } caption { text-align: left; color: var(--soft); padding-bottom: .3rem; } th, td { padding: .3rem
.7rem; text-align: right;
  border-bottom: 1px solid var(--line); white-space: nowrap; font-variant-numeric: tabular-nums; }
th { font-weight: 600; vertical-align: bottom; white-space: pre-line; } .text { text-align: left; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .35rem 1.2rem; margin: .5rem 0; max-width: 56rem; }
dt { font-weight: 600; } dd { margin: 0; overflow-wrap: anywhere; } li { max-width: 52rem; margin: .25rem 0; }
@media print { body { max-width: none; } figure, table { break-inside: avoid; } }
"""


def page(report: RobustErrorReport, title: str, index: int) -> str:
    """The whole page.

    Parameters
    ----------
    report : RobustErrorReport
    title : str
    index : int
        Of the radius of the tightness figures.
    """
    radius = f"{report.radii[index]:g}"
    sections = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="lead">{escape(_lead(report))}</p>',
        "<h2>Error against the radius</h2>",
        f"<p>{escape(_findings(report))}</p>",
        _legend(report),
        _cards(_error_figure(report, i) for i in range(len(report.names))),
        _table(report.sheet()),
        f"<h2>How tight: bound &minus; attack at radius {escape(radius)}</h2>",
        "<p>The worst margin lies between the attack and the bound: a bound is at most this far from the truth.</p>",
        _cards(_gap_figure(report, i, index, k) for i in range(len(report.names)) for k in range(len(report.methods))),
        _table(report.tightness_sheet()),
        f"<h2>Margins under attack at radius {escape(radius)}</h2>",
        "<p>Samples that are not decided usually have margins close to zero: the attack almost succeeded.</p>",
        _status_legend(),
        _cards(_margin_figure(report, i, index) for i in range(len(report.names))),
        "<h2>What the words mean</h2>",
        _meanings(),
        "<h2>What was judged</h2>",
        _pairs([("perturbations", _perturbations(report)), ("methods", ", ".join(report.methods)), *report.facts]),
    ]
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta name="color-scheme" content="light dark"><title>{escape(title)}</title><style>{STYLE}</style>'
    )
    body = "\n".join(sections)
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>{head}</head>\n<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n'
    )


# -- words ------------------------------------------------------------------------------------------------------------


def _perturbations(report: RobustErrorReport) -> str:
    radii = ", ".join(f"{radius:g}" for radius in report.radii)
    return f"{ {'l2': 'ℓ₂', 'linf': 'ℓ∞'}[report.norm] } balls of radius {radii}" + (
        f"; {report.clip}" if report.clip else ""
    )


def _lead(report: RobustErrorReport) -> str:
    models = "1 classifier" if len(report.names) == 1 else f"{len(report.names)} classifiers"
    return f"{models} on {report.n_samples} samples, under {_perturbations(report)}."


def _percent(share: float, n: int, up: bool) -> str:
    return share_written(100 * round(share * n), n, 1, up)


def _findings(report: RobustErrorReport) -> str:
    found, n = [], report.n_samples
    for i, name in enumerate(report.names):
        low, high = report.attack_error[i, -1], report.best_certified_error[i, -1]
        known = not report.n_unknown[i, -1]
        between = (
            f"exactly {100 * low:.1f} %"
            if known
            else f"between {_percent(low, n, DOWN)} % and {_percent(high, n, UP)} %"
        )
        clean = f"clean {100 * report.clean_error[i]:.1f} %"
        found.append(f"{name}: the robust error at radius {report.radii[-1]:g} is {between} ({clean}).")
    return " ".join(found)


def _meanings() -> str:
    from convexnn.report.robust_error import MEANINGS

    truths = "".join(f"<li>{escape(sentence)}</li>" for sentence in TRUTHS[1:])
    return _pairs(MEANINGS) + f"<ul>{truths}</ul>"


def _pairs(pairs: Iterable[tuple[str, str]]) -> str:
    return "<dl>" + "".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in pairs) + "</dl>"


def _table(sheet: Sheet) -> str:
    words = [all(_is_word(row[j]) for row in sheet.rows) for j in range(len(sheet.columns))]
    kinds = [' class="text"' if word else "" for word in words]
    head = "".join(
        f'<th scope="col"{kind}>{escape(label)}</th>' for label, kind in zip(sheet.columns, kinds, strict=True)
    )
    rows = []
    for row in sheet.rows:
        cells = ["&ndash;" if cell is None else escape(str(cell)) for cell in row]
        rows.append("<tr>" + "".join(f"<td{kind}>{c}</td>" for c, kind in zip(cells, kinds, strict=True)) + "</tr>")
    notes = "".join(f'<p class="lead">{escape(note)}</p>' for note in sheet.notes)
    table = f"<caption>{escape(sheet.title)}</caption><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody>"
    return f'<div class="scroll"><table>{table}</table></div>{notes}'


def _is_word(cell: object) -> bool:
    try:
        float(str(cell))
    except ValueError:
        return cell is not None
    return False


# -- figures ----------------------------------------------------------------------------------------------------------


def _cards(figures: Iterable[str]) -> str:
    return '<div class="cards">' + "".join(figures) + "</div>"


def _figure(title: str, chart: Chart, caption: str) -> str:
    return f"<figure><h3>{escape(title)}</h3>{chart}<figcaption>{escape(caption)}</figcaption></figure>"


def _legend(report: RobustErrorReport) -> str:
    line = '<line class="line {}" x1="1" x2="33" y1="5" y2="5"/>'
    entries = [("clean", "clean"), ("attack", "attack (lower bound)")]
    entries += [(f"m{k % COLORS}", f"certified by {method} (upper bound)") for k, method in enumerate(report.methods)]
    return _keys((line.format(kind), text) for kind, text in entries)


def _status_legend() -> str:
    bar = '<rect class="bar {}" width="34" height="10"/>'
    entries = [("certified", "certified by some method"), ("unknown", "unknown"), ("attack", "falsified")]
    return _keys((bar.format(kind), text) for kind, text in entries)


def _keys(entries: Iterable[tuple[str, str]]) -> str:
    small = '<svg viewBox="0 0 34 10" aria-hidden="true">'
    items = [f"<li>{small}{mark}</svg>{escape(text)}</li>" for mark, text in entries]
    return f'<ul class="legend">{"".join(items)}</ul>'


def _error_figure(report: RobustErrorReport, i: int) -> str:
    radii = report.radii.tolist()
    xs = radii if radii[0] == 0 else [0.0, *radii]
    clean = float(report.clean_error[i])

    def full(errors: Array) -> list[float]:
        values: list[float] = np.asarray(errors).tolist()
        return values if radii[0] == 0 else [clean, *values]

    high = max(0.05, float(report.certified_error[i].max()))
    label = f"Errors of {report.names[i]} against the radius"
    chart = Chart(
        (0.0, xs[-1] or 1.0), (0.0, min(1.0, 1.06 * high)), label, f"{report.norm} radius", "error", percent=True
    )
    chart.band(xs, full(report.attack_error[i]), full(report.best_certified_error[i]))
    chart.line([xs[0], xs[-1]], [clean, clean], "clean")
    chart.line(xs, full(report.attack_error[i]), "attack", "attack", marks=True)  # wide, under the others
    for k, method in enumerate(report.methods):
        chart.line(xs, full(report.certified_error[i, :, k]), f"m{k % COLORS}", f"certified by {method}", marks=True)
    met = not report.n_unknown[i].any()
    known = "At every radius a certificate meets the attack: the robust error is known exactly."
    return _figure(report.names[i], chart, known if met else "The robust error lies in the shaded band.")


def _gap_figure(report: RobustErrorReport, i: int, index: int, k: int) -> str:
    every = report.tightness[i, index]
    finite = every[np.isfinite(every)]
    top = float(finite.max(initial=0.0)) or 1.0
    gaps = every[k][np.isfinite(every[k])]
    edges = np.linspace(0.0, top, BINS + 1)
    counts = np.histogram(gaps, edges)[0]
    tallest = max(np.histogram(row[np.isfinite(row)], edges)[0].max() for row in every)
    name = report.methods[k]
    chart = Chart(
        (0.0, top),
        (0.0, 1.08 * max(float(tallest), 1.0)),
        f"bound - attack of {name}",
        "bound − attack",
        "samples",
        height=220,
    )
    _bars(chart, edges, [(counts, f"m{k % COLORS}", name)])
    middle = f"median {np.median(gaps):.3g}" if len(gaps) else "no bound"
    missing = report.n_samples - len(gaps)
    caption = middle + (f"; {missing} samples without a bound" if missing else "")
    title = f"{name}" if len(report.names) == 1 else f"{report.names[i]}: {name}"
    return _figure(title, chart, caption)


def _margin_figure(report: RobustErrorReport, i: int, index: int) -> str:
    values = report.attack[i, index]
    edges = _edges(values)
    certified = report.certified[i, index].any(axis=0)
    falsified = values >= 0
    kinds = [("certified", certified), ("unknown", ~certified & ~falsified), ("attack", falsified)]
    stacks = [(np.histogram(values[mask], edges)[0], kind, kind) for kind, mask in kinds]
    tallest = max(1.0, float(np.sum([counts for counts, _, _ in stacks], axis=0).max()))
    label = f"Margins under attack of {report.names[i]}"
    chart = Chart(
        (float(edges[0]), float(edges[-1])), (0.0, 1.08 * tallest), label, "margin under attack", "samples", height=220
    )
    _bars(chart, edges, stacks)
    if edges[0] < 0 < edges[-1]:
        chart.rule(0.0, "misclassified")
    counts = ", ".join(f"{int(mask.sum())} {'falsified' if kind == 'attack' else kind}" for kind, mask in kinds)
    return _figure(report.names[i], chart, counts + ".")


def _edges(values: Array) -> Array:
    """Edges of about BINS equal bins; zero is one of them where values have both signs."""
    low, high = float(values.min()), float(values.max())
    width = (high - low) / BINS
    if not low < 0 < high or width < 1e-12 * max(-low, high):
        return np.histogram_bin_edges(values, BINS)
    first, last = math.floor(low / width), math.floor(high / width) + 1
    return width * np.arange(first, last + 1, dtype=np.float64)


def _bars(chart: Chart, edges: Array, stacks: Sequence[tuple[NDArray[np.intp], str, str]]) -> None:
    base = np.zeros(len(edges) - 1)
    for counts, kind, name in stacks:
        shown = "falsified" if name == "attack" else name
        for b, count in enumerate(counts.tolist()):
            title = f"{shown}: {count} in [{edges[b]:.3g}, {edges[b + 1]:.3g}]"
            chart.bar(float(edges[b]), float(edges[b + 1]), float(base[b]), float(base[b] + count), kind, title)
        base = base + counts
