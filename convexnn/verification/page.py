"""The page of a certification report: what is certified, broken and open, and how far bounds are from attacks."""

from __future__ import annotations

from collections import Counter
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from convexnn.decimals import DOWN, UP, share_written, written
from convexnn.pages.document import (
    MEANINGS,
    TRUTHS,
    bar_key,
    bullets,
    cards,
    document,
    figure,
    heading,
    keys,
    margin_chart,
    pairs,
    table,
)
from convexnn.pages.svg import Chart
from convexnn.threats import Box
from convexnn.verification.verdict import STATUSES, Verdict

if TYPE_CHECKING:
    from convexnn.verification.report import CertificationReport

Array = NDArray[np.float64]

#: Samples that are listed one by one; the others are counted.
LISTED = 200
ORDER = {"falsified": 0, "unknown": 1, "certified": 2}
NORMS = {"l2": "ℓ₂", "linf": "ℓ∞"}


def page(report: CertificationReport, title: str) -> str:
    """The whole page; the same report gives the same text."""
    return document(
        title,
        [
            heading(title, f"{report.n_samples} samples under {threat_words(report.threat)}."),
            f"<p>{escape(_finding(report))}</p>",
            _status_table(report),
            "<h2>Margins</h2>",
            "<p>The margin of a sample is the largest lead of a wrong class over the right one: negative while the "
            "prediction is right. The worst margin over the set lies between what an attack reached and the bound.</p>",
            keys((bar_key(kind), word) for kind, word in _LEGEND),
            cards([_margins(report), _bounds(report)]),
            *_class_sections(report),
            "<h2>Who decided</h2>",
            _work_table(report),
            *_reason_sections(report),
            "<h2>Samples</h2>",
            _sample_table(report),
            "<h2>What the words mean</h2>",
            pairs(MEANINGS) + bullets(TRUTHS[1:]),
            "<h2>What was judged</h2>",
            pairs(_facts(report)),
        ],
    )


_LEGEND = (("certified", "certified"), ("unknown", "unknown"), ("attack", "falsified"))


def threat_words(threat: Any) -> str:
    """A threat set in words: norm, radius, data range."""
    if isinstance(threat, Box):
        return "one box for all samples"
    words = f"{NORMS.get(threat.norm, threat.norm)} balls of radius {threat.radius:g}"
    if threat.clip is None:
        return words
    low, high = (np.asarray(end, dtype=float) for end in threat.clip)
    return f"{words}; inputs stay in [{low.min():g}, {high.max():g}]"


def _finding(report: CertificationReport) -> str:
    n, counts = report.n_samples, report.counts
    low = share_written(100 * counts["certified"], n, 1, DOWN)
    high = share_written(100 * (n - counts["falsified"]), n, 1, UP)
    clean = f"{100 * report.clean_accuracy:.1f} % of the samples are classified right as they are."
    if not counts["unknown"]:
        return f"{clean} Under the worst perturbations it is exactly {low} %: every sample is decided."
    return f"{clean} Under the worst perturbations it is between {low} % (proved) and {high} % (not broken)."


def _status_table(report: CertificationReport) -> str:
    n = report.n_samples
    rows = [(status, str(count), f"{count / n:.1%}") for status, count in report.counts.items()]
    return table("Verdicts", ("verdict", "samples", "share"), rows)


def _margins(report: CertificationReport) -> str:
    reached = np.maximum(report.lower, report.clean)
    certified = np.array([status == "certified" for status in report.statuses])
    chart, counts = margin_chart(reached, certified, "Margins under attack", 300)
    return figure("What attacks reached", chart, counts)


def _bounds(report: CertificationReport) -> str:
    reached, bound = np.maximum(report.lower, report.clean), report.margins
    shown = np.isfinite(reached) & np.isfinite(bound)
    missing = f"{int((~shown).sum())} samples have no bound: a broken sample needs none. " if not shown.all() else ""
    if not shown.any():
        ends = (0.0, 1.0)
    else:
        ends = (
            float(min(reached[shown].min(), bound[shown].min())),
            float(max(reached[shown].max(), bound[shown].max())),
        )
    room = 0.05 * ((ends[1] - ends[0]) or 1.0)
    span = ends[0] - room, ends[1] + room
    chart = Chart(span, span, "Bounds against attacks", "margin reached by an attack", "upper bound on the margin")
    chart.line(span, span, "clean")
    for row in np.flatnonzero(shown).tolist():
        verdict = report.verdicts[row]
        kind = {"falsified": "attack"}.get(verdict.status, verdict.status)
        chart.dot(reached[row], bound[row], kind, f"sample {verdict.index}: {reached[row]:.4g} to {bound[row]:.4g}")
    words = f"{missing}On the dotted line the bound meets the attack. Methods stop at the sign unless told otherwise."
    return figure("How far bounds are from attacks", chart, words)


def _class_sections(report: CertificationReport) -> list[str]:
    found: dict[Any, Counter[str]] = {}
    for verdict in report.verdicts:
        found.setdefault(report.label_of(verdict), Counter())[verdict.status] += 1
    if len(found) < 2:
        return []
    rows = [(str(label), *(str(found[label][status]) for status in STATUSES)) for label in sorted(found, key=_order)]
    return ["<h2>By class</h2>", table("Samples by class and verdict", ("class", *STATUSES), rows)]


def _order(label: Any) -> tuple[bool, Any]:
    return (True, str(label)) if isinstance(label, str) else (False, label)


def _work_table(report: CertificationReport) -> str:
    decided = [(name, str(count)) for name, count in report.decided_by.items()]
    seconds = [(name, f"{total:.3g}") for name, total in report.stage_seconds.items()]
    notes = ("Summed over the samples; what serves several samples at once is split between them.",)
    return table("Samples decided by a method", ("method", "samples"), decided) + table(
        "Seconds by stage", ("stage", "seconds"), seconds, notes
    )


def _reason_sections(report: CertificationReport) -> list[str]:
    reasons = Counter(v.reason.partition(";")[0] for v in report.verdicts if v.status == "unknown")
    if not reasons:
        return []
    rows = [(str(count), reason or "none was given") for reason, count in reasons.most_common()]
    return ["<h2>Why samples are unknown</h2>", table("Reasons", ("samples", "reason"), rows)]


def _sample_table(report: CertificationReport) -> str:
    order = sorted(report.verdicts, key=lambda v: (ORDER[v.status], v.index))
    columns = ("sample", "class", "verdict", "margin of the sample", "attack >=", "bound <=", "method")
    rows = [_sample_row(report, verdict) for verdict in order[:LISTED]]
    left = len(order) - len(rows)
    notes = (f"{left} certified or later samples are not listed; report.to_frame() has all.",) if left else ()
    return table("Falsified, unknown, certified", columns, rows, notes)


def _sample_row(report: CertificationReport, verdict: Verdict) -> tuple[str | None, ...]:
    def shown(value: float, up: bool) -> str | None:
        return written(value, 4, up) if np.isfinite(value) else None

    numbers = f"{verdict.clean:.4g}", shown(verdict.lower, DOWN), shown(verdict.margin, UP)
    method = verdict.method if verdict.rigorous else f"{verdict.method} (a solver's word)"
    return (str(verdict.index), str(report.label_of(verdict)), verdict.status, *numbers, method)


def _facts(report: CertificationReport) -> list[tuple[str, str]]:
    return [
        ("perturbations", threat_words(report.threat)),
        ("method", str(report.method)),
        ("samples", f"{report.n_samples} with {report.n_inputs} inputs each, SHA-256 {report.data_digest[:16]}"),
        ("network", f"SHA-256 {report.network_fingerprint[:16]}"),
        ("wall seconds", f"{report.seconds:.2f}"),
    ]
