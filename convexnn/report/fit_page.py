"""The page of a fit: evidence, objective by stage, errors under attack, parameters."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from convexnn.pages.document import TRUTHS, bullets, cards, document, figure, heading, keys, line_key, pairs, table
from convexnn.pages.svg import Chart
from convexnn.report.sheet import Cell, Sheet, shown
from convexnn.report.stages import robustness_sheet

if TYPE_CHECKING:
    from convexnn.certificates.robustness import RobustnessTable
    from convexnn.report.fit import FitReport


def page(report: FitReport, title: str) -> str:
    """The whole page; the same report gives the same text."""
    sections = [heading(title, "What was found, how it is known, and what it does not say."), _table(report.sheet())]
    figures = [*_objective(report), *_errors(report.robustness)]
    if figures:
        sections.append("<h2>Figures</h2>")
        sections.append(keys(((line_key(kind), word) for kind, word in _KEYS)))
        sections.append(cards(figures))
    if report.stages:
        rows = [(stage, f"{objective:.6g}", f"{seconds:.2f}") for stage, objective, seconds in report.stages]
        sections.append(table("Stages of the fit", ("stage", "training objective", "seconds"), rows))
    if report.robustness is not None:
        sections += ["<h2>Errors under attack</h2>", _table(robustness_sheet(report.robustness))]
    sections += ["<h2>What the numbers say</h2>", bullets(TRUTHS)]
    sections += ["<h2>What was fitted</h2>", pairs([*report.facts, *report.parameters])]
    return document(title, sections)


_KEYS = (
    ("attack", "reached: objective, error under attack"),
    ("m0", "proved: lower bound of the program, certified error"),
)


def _table(sheet: Sheet) -> str:
    cells = [[_cell(cell, label) for cell, label in zip(row, sheet.columns, strict=True)] for row in sheet.rows]
    return table(sheet.title, sheet.columns, cells, sheet.notes)


def _cell(cell: Cell, label: str) -> str | None:
    """As in text, but without powers of ten up to a billion."""
    if not isinstance(cell, float):
        return cell
    text = shown(cell, label)
    return f"{float(text):.0f}" if 1e4 <= abs(cell) < 1e9 else text


def _objective(report: FitReport) -> list[str]:
    if len(report.stages) < 2:
        return []
    seconds = [row[2] for row in report.stages]
    values = [row[1] for row in report.stages]
    low = min(values) if not math.isfinite(report.lower_bound) else min(report.lower_bound, min(values))
    room = 0.06 * ((max(values) - low) or 1.0)
    ranges = (0.0, max(seconds) or 1.0), (low - room, max(values) + room)
    chart = Chart(*ranges, "Training objective against time", "seconds", "training objective")
    if math.isfinite(report.lower_bound):
        chart.line(list(ranges[0]), [report.lower_bound] * 2, "m0")
    steps = [(t, v) for t, old, new in zip(seconds[1:], values, values[1:], strict=False) for v in (old, new)]
    corners = [(seconds[0], values[0]), *steps]  # the best network stays until a better one is found
    chart.line([t for t, _ in corners], [v for _, v in corners], "attack", "objective", marks=True)
    stages = ", ".join(row[0] for row in report.stages)
    words = "No network with these patterns is below the lower bound." if math.isfinite(report.lower_bound) else ""
    return [figure("Objective", chart, f"{stages}. {words}".strip())]


def _errors(found: RobustnessTable | None) -> list[str]:
    if found is None:
        return []
    radii = found.radii.tolist()
    zero = radii[0] == 0
    xs = radii if zero else [0.0, *radii]
    clean, low, high = (np.asarray(found.mean(kind))[0] for kind in ("clean", "attacked", "certified"))
    lower, upper = ([*([] if zero else [float(clean)]), *curve.tolist()] for curve in (low, high))
    finite = [value for value in upper if math.isfinite(value)]
    if len(finite) < len(upper):
        upper = lower
    percent = found.task == "classification"
    ranges = (0.0, xs[-1] or 1.0), (0.0, 1.06 * max(*upper, 0.05 if percent else 1e-12))
    name = "error" if percent else "mean squared error"
    chart = Chart(
        *ranges, f"{name} against the radius", f"{found.norm} radius (units of the inputs)", name, percent=percent
    )
    chart.band(xs, lower, upper)
    chart.line(xs, lower, "attack", "attack", marks=True)
    if len(finite) == len(upper):
        chart.line(xs, upper, "m0", "certified", marks=True)
    return [figure("Error under attack", chart, "The error under the worst perturbations lies in the shaded band.")]
