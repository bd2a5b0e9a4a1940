"""One self-contained HTML page about robust errors: every text escaped, charts inline, light and dark, no script."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from convexnn.decimals import DOWN, UP, share_written
from convexnn.pages.document import (
    BINS,
    COLORS,
    MEANINGS,
    TRUTHS,
    bar_key,
    bars,
    bullets,
    cards,
    document,
    figure,
    heading,
    keys,
    line_key,
    margin_chart,
    pairs,
    table,
)
from convexnn.pages.svg import Chart
from convexnn.report.sheet import Sheet

if TYPE_CHECKING:
    from convexnn.report.robust_error import RobustErrorReport

Array = NDArray[np.float64]


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
        heading(title, _lead(report)),
        "<h2>Error against the radius</h2>",
        bullets(_findings(report)),
        _legend(report),
        cards(_error_figure(report, i) for i in range(len(report.names))),
        _table(report.sheet()),
        f"<h2>How tight: bound &minus; attack at radius {escape(radius)}</h2>",
        "<p>The worst margin lies between the attack and the bound: a bound is at most this far from the truth.</p>",
        cards(_gap_figure(report, i, index, k) for i in range(len(report.names)) for k in range(len(report.methods))),
        _table(report.tightness_sheet()),
        f"<h2>Margins under attack at radius {escape(radius)}</h2>",
        "<p>Samples that are not decided usually have margins close to zero: the attack almost succeeded.</p>",
        _status_legend(),
        cards(_margin_figure(report, i, index) for i in range(len(report.names))),
        "<h2>What the words mean</h2>",
        _meanings(),
        "<h2>What was judged</h2>",
        pairs([("perturbations", _perturbations(report)), ("methods", ", ".join(report.methods)), *report.facts]),
    ]
    return document(title, sections)


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


def _findings(report: RobustErrorReport) -> list[str]:
    n = report.n_samples
    found: list[str] = []
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
    return found


def _meanings() -> str:
    return pairs(MEANINGS) + bullets(TRUTHS[1:])


def _table(sheet: Sheet) -> str:
    return table(sheet.title, sheet.columns, sheet.rows, sheet.notes)


# -- figures ----------------------------------------------------------------------------------------------------------


def _legend(report: RobustErrorReport) -> str:
    entries = [("clean", "clean"), ("attack", "attack (lower bound)")]
    entries += [(f"m{k % COLORS}", f"certified by {method} (upper bound)") for k, method in enumerate(report.methods)]
    return keys((line_key(kind), text) for kind, text in entries)


def _status_legend() -> str:
    entries = [("certified", "certified by some method"), ("unknown", "unknown"), ("attack", "falsified")]
    return keys((bar_key(kind), text) for kind, text in entries)


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
    return figure(report.names[i], chart, known if met else "The robust error lies in the shaded band.")


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
    bars(chart, edges, [(counts, f"m{k % COLORS}", name)])
    middle = f"median {np.median(gaps):.3g}" if len(gaps) else "no bound"
    missing = report.n_samples - len(gaps)
    caption = middle + (f"; {missing} samples without a bound" if missing else "")
    title = f"{name}" if len(report.names) == 1 else f"{report.names[i]}: {name}"
    return figure(title, chart, caption)


def _margin_figure(report: RobustErrorReport, i: int, index: int) -> str:
    certified = report.certified[i, index].any(axis=0)
    chart, counts = margin_chart(report.attack[i, index], certified, f"Margins under attack of {report.names[i]}")
    return figure(report.names[i], chart, counts)
