"""The report of a certification run: one verdict a sample, counts, accuracies, times; it is saved without pickle."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convexnn.archive import read_archive, write_archive
from convexnn.certificates.records import as_frame
from convexnn.decimals import DOWN, UP, share_written
from convexnn.exceptions import CertificateError, InvalidInputError
from convexnn.threats import Threat
from convexnn.values import ByValue
from convexnn.verification.audit import audit
from convexnn.verification.encoding import BROKEN, threat_of, threat_record, verdict_of, verdict_record
from convexnn.verification.task import read_task
from convexnn.verification.verdict import STATUSES, Verdict

if TYPE_CHECKING:
    from convexnn.verification.certificates import LocalCertificate

Array = NDArray[np.float64]

FORMAT = "convexnn.certification"
VERSION = 1


@dataclass(frozen=True, eq=False)
class CertificationReport(ByValue):
    """What is known about every sample; ``attack <= truth <= bound``.

    Attributes
    ----------
    verdicts : tuple of Verdict
        One a sample, in order.
    network_fingerprint : str
        SHA-256 of the network.
    data_digest : str
        SHA-256 of samples and labels.
    threat : Threat
        Raw input units.
    method : str
    seconds : float
        Wall seconds of the run (of the last one where it was resumed).
    classes : tuple
        Labels of the classes; empty where they are 0, 1, ...
    n_inputs : int
    """

    verdicts: tuple[Verdict, ...] = field(repr=False)
    network_fingerprint: str = field(repr=False)
    data_digest: str = field(repr=False)
    threat: Threat
    method: str
    seconds: float
    classes: tuple[Any, ...] = ()
    n_inputs: int = 0

    @property
    def n_samples(self) -> int:
        """Number of samples."""
        return len(self.verdicts)

    @property
    def margins(self) -> Array:
        """UPPER bounds on ``max_{t != y} f_t - f_y`` over each set, shape (n,); ``inf`` where none was computed."""
        return np.array([verdict.margin for verdict in self.verdicts])

    @property
    def lower(self) -> Array:
        """LOWER bounds on the same, attained at points of the sets, shape (n,)."""
        return np.array([verdict.lower for verdict in self.verdicts])

    @property
    def clean(self) -> Array:
        """Margins of the samples themselves, shape (n,); negative where the prediction is right."""
        return np.array([verdict.clean for verdict in self.verdicts])

    @property
    def statuses(self) -> list[str]:
        """Status of every sample."""
        return [verdict.status for verdict in self.verdicts]

    @property
    def counterexamples(self) -> Array:
        """Misclassified points of the sets, shape (n, d); rows of nan where none is known."""
        found = np.full((self.n_samples, self.n_inputs), np.nan)
        for row, verdict in enumerate(self.verdicts):
            if verdict.counterexample is not None:
                found[row] = verdict.counterexample
        return found

    @property
    def counts(self) -> dict[str, int]:
        """Number of samples by status."""
        return {status: self.statuses.count(status) for status in STATUSES}

    @property
    def clean_accuracy(self) -> float:
        """Fraction of samples classified right without perturbation; a tie is wrong."""
        return float((self.clean < 0).mean())

    @property
    def robust_accuracy(self) -> float:
        """Fraction of samples that are not falsified: an UPPER bound on the accuracy under the worst perturbations."""
        return 1.0 - self.counts["falsified"] / self.n_samples

    @property
    def certified_accuracy(self) -> float:
        """Fraction of samples that are certified: a LOWER bound on the accuracy under the worst perturbations."""
        return self.counts["certified"] / self.n_samples

    @property
    def stage_seconds(self) -> dict[str, float]:
        """Seconds of every stage, summed over the samples."""
        total: Counter[str] = Counter()
        for verdict in self.verdicts:
            total.update(dict(verdict.seconds))
        return dict(total)

    @property
    def decided_by(self) -> dict[str, int]:
        """Number of decided samples by the method that decided, most first."""
        return dict(Counter(verdict.method for verdict in self.verdicts if verdict.status != "unknown").most_common())

    def label_of(self, verdict: Verdict) -> Any:
        """Label of the class of a sample."""
        return self.classes[verdict.label] if self.classes else verdict.label

    def to_columns(self) -> dict[str, list[Any]]:
        """One list a column, one entry a sample."""
        plain = ("index", "status", "clean", "margin", "lower", "method", "rigorous", "reason")
        columns: dict[str, list[Any]] = {name: [getattr(verdict, name) for verdict in self.verdicts] for name in plain}
        columns["label"] = [self.label_of(verdict) for verdict in self.verdicts]
        for stage in self.stage_seconds:
            columns[f"seconds_{stage}"] = [verdict.seconds.get(stage, 0.0) for verdict in self.verdicts]
        return columns

    def to_frame(self) -> Any:
        """One row a sample as a :class:`pandas.DataFrame`; needs pandas."""
        return as_frame(self.to_columns()).set_index("index")

    def check(self, model: Any, X: ArrayLike, y: ArrayLike) -> None:
        """Verify everything again that can be: the network, the data, counterexamples, and evidence where it was kept.

        Raises
        ------
        CertificateError
            When something does not hold.
        """
        task = read_task(model, X, y, self.threat, 0)
        if (task.network.fingerprint(), task.data_digest()) != (self.network_fingerprint, self.data_digest):
            raise CertificateError("The report is about another network or other data: the fingerprints differ.")
        for verdict in self.verdicts:
            audit(task, verdict)

    def certificates(self, model: Any, X: ArrayLike, y: ArrayLike, *, exact: bool = False) -> list[LocalCertificate]:
        """Certificates of the certified samples, from the evidence kept; see `certificate_reports.certificates_of`."""
        from convexnn.verification.certificate_reports import certificates_of

        return certificates_of(self, model, X, y, exact=exact)

    def to_html(self, path: str | os.PathLike[str], *, title: str = "Certification") -> Path:
        """Write one self-contained HTML page: verdicts, margins, bounds against attacks; returns the path.

        Nothing is loaded from elsewhere, no script runs, and the same report gives the same bytes.
        """
        from convexnn.pages.document import written
        from convexnn.verification.page import page

        return written(page(self, title), path)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the report to an archive of the package (JSON and plain arrays, no pickle) and return its path."""
        records = [verdict_record(verdict) for verdict in self.verdicts]
        for record in records:
            record["counterexample"] = None
        header = {
            "format": FORMAT,
            "version": VERSION,
            "network": self.network_fingerprint,
            "data": self.data_digest,
            "threat": threat_record(self.threat),
            "method": self.method,
            "seconds": self.seconds,
            "classes": list(self.classes),
            "n_inputs": self.n_inputs,
            "verdicts": records,
        }
        return write_archive(path, header, {"counterexamples": self.counterexamples})

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> CertificationReport:
        """Read a report written by :meth:`save`; :meth:`check` verifies it against the network and the data."""
        header, arrays = read_archive(path, format=FORMAT, version=VERSION)
        try:
            records, points = header["verdicts"], np.asarray(arrays["counterexamples"], dtype=float)
            if len(points) != len(records):
                raise InvalidInputError("the counterexamples do not fit the verdicts")
            for record, point in zip(records, points, strict=True):
                record["counterexample"] = point if record["status"] == "falsified" else None
            return cls(
                verdicts=tuple(verdict_of(record) for record in records),
                network_fingerprint=str(header["network"]),
                data_digest=str(header["data"]),
                threat=threat_of(header["threat"]),
                method=str(header["method"]),
                seconds=float(header["seconds"]),
                classes=tuple(header["classes"]),
                n_inputs=int(header["n_inputs"]),
            )
        except BROKEN as error:
            raise InvalidInputError(f"{path} does not hold a valid report: {error}") from error

    def __str__(self) -> str:
        """A small table: counts, accuracies, who decided, seconds by stage."""
        n, counts = self.n_samples, self.counts
        lines = [f"{n} samples, {self.threat!r}, method {self.method}, {self.seconds:.2f} s"]
        lines += [f"  {status:10}{counts[status]:6d}  {counts[status] / n:7.1%}" for status in STATUSES]
        lines.append(
            f"  accuracy: certified {share_written(counts['certified'], n, 4, DOWN)} <= robust"
            f" <= {share_written(n - counts['falsified'], n, 4, UP)}"
            f" (clean {self.clean_accuracy:.4f})"
        )
        lines += _row("decided by", self.decided_by) + _row("seconds", self.stage_seconds)
        lines += [f"  unknown: {reason}: {count}" for reason, count in self._reasons()]
        return "\n".join(lines)

    def _reasons(self) -> list[tuple[str, int]]:
        found = Counter(v.reason.partition(";")[0] for v in self.verdicts if v.status == "unknown")
        return found.most_common()


def _row(title: str, values: Mapping[str, float]) -> list[str]:
    shown = ", ".join(f"{name} {value:.3g}" if value % 1 else f"{name} {int(value)}" for name, value in values.items())
    return [f"  {title}: {shown}"] if values else []
