"""Certificates of the samples that a report certifies, for anybody who has the network and not the time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from numpy.typing import ArrayLike

from convexnn.exceptions import CertificateError, InvalidInputError
from convexnn.verification.certificates import About, LocalCertificate, certificate_of
from convexnn.verification.task import read_task

if TYPE_CHECKING:
    from convexnn.verification.report import CertificationReport


def certificates_of(
    report: CertificationReport, model: Any, X: ArrayLike, y: ArrayLike, *, exact: bool = False
) -> list[LocalCertificate]:
    """One certificate for every sample that the report certifies by evidence, recomputed on the way.

    Parameters
    ----------
    report : CertificationReport
        Of ``certify(..., keep_evidence=True)``.
    model, X, y
        What was certified.
    exact : bool, default False
        Claim the bounds of the exact checks (small ReLU and LeakyReLU networks).

    Returns
    -------
    list of LocalCertificate
        In the order of the samples. Samples that are certified on a solver's word (mixed-integer programs) have none.

    Raises
    ------
    CertificateError
        When the report is about another network or other data.
    InvalidInputError
        When the evidence was not kept.
    """
    task = read_task(model, X, y, report.threat, 0)
    if (task.network.fingerprint(), task.data_digest()) != (report.network_fingerprint, report.data_digest):
        raise CertificateError("The report is about another network or other data: the fingerprints differ.")
    found = []
    for verdict in report.verdicts:
        if verdict.status != "certified" or not verdict.rigorous:
            continue
        if verdict.evidence is None:
            raise InvalidInputError(
                f"The evidence for sample {verdict.index} was not kept; certify it again with keep_evidence=True."
            )
        about = About(verdict.index, verdict.label, task.X[verdict.index], report.threat)
        query = task.query(verdict.index)
        found.append(certificate_of(query, verdict.evidence, about=about, exact=exact))
    return found
