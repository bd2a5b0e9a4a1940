"""Certificates about one sample: bounds over a set of inputs with the multipliers that prove them, in a file.

The statement is "for every input of this set, ``weights f(x) + offset <= bounds``". Whoever holds the network and the
file recomputes the bounds from the multipliers by the check of each method; only these numbers are shown.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convexnn.certificate import readable_multipliers
from convexnn.exceptions import CertificateError, InvalidInputError
from convexnn.inputs import refuse_complex
from convexnn.network import Network
from convexnn.propagation import Evidence, InputSet, Query, Signs
from convexnn.threats import Threat
from convexnn.values import ByValue
from convexnn.verification.combined import NUMBERED
from convexnn.verification.exact import exact_bounds
from convexnn.verification.registry import METHODS, get_certifier

Array = NDArray[np.float64]
ARITHMETICS = ("float64+slack", "exact")

#: A claim is looser than what was proved by this relative amount: another order of summation does not refuse it.
CUSHION = 1e-9


@dataclass(frozen=True, eq=False)
class Proof(ByValue):
    """The evidence of one method for some of the rows.

    Attributes
    ----------
    method : str
        Name of the certifier whose check reads the multiplier.
    rows : array of int, shape (r,)
        Rows of the statement that it is about.
    multiplier : mapping of str to array
        Any arrays give valid bounds; bad ones loose bounds.
    """

    method: str
    rows: NDArray[np.intp]
    multiplier: Mapping[str, Array] = field(repr=False)


@dataclass(frozen=True, eq=False)
class About(ByValue):
    """What the set of inputs and the rows mean, in words; compared with the arrays wherever they can tell.

    Attributes
    ----------
    index : int or None
        Row of the sample in somebody's data: nothing in the file can confirm it.
    label : int or None
        Class of the sample: the rows must then be the rivals of this class.
    point : array, shape (d,), or None
    threat : L2Ball, LInfBall, Box or None
        The set must be the one of this threat around the point.
    """

    index: int | None = None
    label: int | None = None
    point: Array | None = None
    threat: Threat | None = None


@dataclass(frozen=True, eq=False)
class LocalCertificate(ByValue):
    """``weights f(x) + offset <= bounds`` for every input of one set, with the multipliers that prove it.

    Attributes
    ----------
    inputs : InputSet
        Raw input units.
    weights, offset : array, shapes (q, k) and (q,)
        Rows of the statement.
    bounds : array, shape (q,)
        Claimed upper bounds, ``inf`` where nothing is claimed.
    proofs : tuple of Proof
        For each row the least bound of all proofs that are about it counts.
    fingerprint : str
        SHA-256 of the network.
    arithmetic : str
        ``"float64+slack"`` (outward rounding) or ``"exact"`` (rational numbers).
    signs : tuple of int8 arrays or None
        The statement is about the inputs of the set with these signs of the units only (see `Query`).
    about : About
    details : mapping of str to str or float
        Anything worth printing; never used by the check.
    """

    inputs: InputSet
    weights: Array
    offset: Array
    bounds: Array
    proofs: tuple[Proof, ...]
    fingerprint: str = field(repr=False)
    arithmetic: str = ARITHMETICS[0]
    signs: Signs | None = field(default=None, repr=False)
    about: About = field(default_factory=About)
    details: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def bound(self) -> float:
        """The largest claimed bound."""
        return float(np.max(self.bounds))

    @property
    def methods(self) -> tuple[str, ...]:
        """Methods of the proofs, without repetition."""
        return tuple(dict.fromkeys(proof.method for proof in self.proofs))

    def query(self, network: Network) -> Query:
        """The question that the certificate answers.

        Raises
        ------
        CertificateError
            When the arrays do not state anything about this network: wrong shapes, nan, an empty set, words that
            contradict the arrays.
        """
        from convexnn.verification.statements import refuse_statement

        refuse_statement(self, network)
        return Query(network, self.inputs, self.weights, self.offset, self.signs)

    def check(self, network: Network, *, exact: bool = False) -> Array:
        """Recompute the bounds for ``network`` from the multipliers alone.

        Parameters
        ----------
        network : Network
        exact : bool, default False
            Compute over the rational numbers, without rounding. Done anyhow for certificates with
            ``arithmetic="exact"``. Meant for small networks.

        Returns
        -------
        array, shape (q,)
            Upper bounds, none above the claimed ones. With ``exact`` the rational bounds rounded up.

        Raises
        ------
        CertificateError
            When the network is another one, the statement contradicts itself, a method is not known or cannot do
            what is asked, or the multipliers do not prove the claimed bounds.
        """
        if network.fingerprint() != self.fingerprint:
            raise CertificateError("The certificate is about another network: the fingerprints differ.")
        query = self.query(network)
        rational = exact or self.arithmetic == "exact"
        with readable_multipliers():
            found = proved_bounds(query, self.proofs, exact=rational)
        wrong = np.flatnonzero(~(found <= self.bounds))
        if len(wrong):
            row = int(wrong[np.argmax(found[wrong] - self.bounds[wrong])])
            raise CertificateError(
                f"The multipliers prove a bound of {found[row]:.10g} for row {row}, not the claimed "
                f"{self.bounds[row]:.10g}."
            )
        return found

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the statement and the multipliers to an ``.npz`` file (plain arrays and a JSON header, no pickle)."""
        from convexnn.verification.certificate_files import write

        return write(self, path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> LocalCertificate:
        """Read a certificate written by :meth:`save`. It proves nothing until :meth:`check` is called."""
        from convexnn.verification.certificate_files import read

        return read(path)

    def __str__(self) -> str:
        """The statement in words."""
        from convexnn.verification.statements import describe

        return describe(self, self.bounds)


def proved_bounds(query: Query, proofs: Iterable[Proof], *, exact: bool = False) -> Array:
    """Least upper bounds (q,) that these proofs give, recomputed; ``inf`` for rows without proof.

    Raises
    ------
    CertificateError
        For unknown methods, multipliers of wrong shapes, rows that do not exist, and with ``exact`` methods without
        exact check.
    """
    found = np.full(query.n_rows, np.inf)
    for proof in proofs:
        part = query.rows(proof.rows)
        bounds = exact_bounds(part, proof.method, _arrays(proof.multiplier)) if exact else _checked(part, proof)
        np.minimum.at(found, proof.rows, bounds)
    return found


def _checked(part: Query, proof: Proof) -> Array:
    """Bounds of the method's own check; arrays that it cannot read are a sentence, whatever numpy says of them."""
    if proof.method not in METHODS or not METHODS[proof.method].rigorous:
        raise CertificateError(f"The method {proof.method!r} gives no bounds that can be checked again.")
    certifier = get_certifier(proof.method)
    refusal = certifier.refusal(part)
    if refusal is not None:
        raise CertificateError(f"The method {proof.method!r} proves nothing here: {refusal}")
    try:
        bounds = np.asarray(certifier.check(part, _arrays(proof.multiplier)), dtype=np.float64)
    except CertificateError:
        raise
    except (ArithmeticError, IndexError, KeyError, MemoryError, TypeError, ValueError) as error:
        raise CertificateError(f"The multiplier of {proof.method!r} cannot be used: {error}") from error
    if bounds.shape != (part.n_rows,):
        raise CertificateError(f"The check of {proof.method!r} gave shape {bounds.shape}, not ({part.n_rows},).")
    return np.where(np.isnan(bounds), np.inf, bounds)


def certificate_of(
    query: Query,
    evidence: Evidence | Sequence[tuple[ArrayLike, Evidence]],
    *,
    about: About | None = None,
    exact: bool = False,
    details: Mapping[str, Any] | None = None,
) -> LocalCertificate:
    """Certificate of what this evidence proves, recomputed before it is claimed.

    Parameters
    ----------
    query : Query
    evidence : Evidence, or sequence of (rows, Evidence)
        For all rows of the query; or parts, each for ``query.rows(rows)``.
    about : About, optional
        What the query is about, in words.
    exact : bool, default False
        Claim the bounds of the exact check.
    details : mapping, optional

    Returns
    -------
    LocalCertificate
        Its bounds are those that the checks gave, plus a relative 1e-9.
    """
    parts = [(np.arange(query.n_rows), evidence)] if isinstance(evidence, Evidence) else list(evidence)
    proofs = tuple(proof for rows, part in parts for proof in _proofs(np.atleast_1d(np.asarray(rows)), part))
    proved = proved_bounds(query, proofs, exact=exact)
    return LocalCertificate(
        inputs=query.inputs,
        weights=query.weights,
        offset=query.offset,
        bounds=proved + CUSHION * np.where(np.isfinite(proved), np.abs(proved), 0.0),
        proofs=proofs,
        fingerprint=query.network.fingerprint(),
        arithmetic=ARITHMETICS[1 if exact else 0],
        signs=query.signs,
        about=About() if about is None else about,
        details={} if details is None else dict(details),
    )


def _proofs(rows: NDArray[np.intp], evidence: Evidence) -> Iterable[Proof]:
    """Proofs of an evidence about these rows; evidence of several methods is taken apart."""
    if evidence.method != "combined":
        yield Proof(evidence.method, rows.astype(np.intp), _arrays(evidence.multiplier))
        return
    for place in sorted({key.partition("/")[0] for key in evidence.multiplier}):
        start = f"{place}/"
        own = {key.removeprefix(start): value for key, value in evidence.multiplier.items() if key.startswith(start)}
        chosen, number = own.pop("rows"), own.pop("method")
        yield Proof(NUMBERED[int(number[0])], rows[chosen.astype(np.intp)].astype(np.intp), _arrays(own))


def _arrays(multiplier: Mapping[str, Any]) -> dict[str, Array]:
    """The arrays of a multiplier: whatever else a process keeps there is no evidence for others."""
    plain = {key: value for key, value in multiplier.items() if isinstance(value, np.ndarray | float | int | list)}
    refuse_complex(plain)
    return {key: np.asarray(value, dtype=np.float64) for key, value in plain.items()}


def save_certificates(certificates: Iterable[LocalCertificate], folder: str | os.PathLike[str]) -> list[Path]:
    """Write certificates to a folder, one file a sample, named by its index (else by its place).

    Raises
    ------
    InvalidInputError
        When two have the same index.
    """
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    paths: dict[Path, LocalCertificate] = {}
    for place, certificate in enumerate(certificates):
        number = place if certificate.about.index is None else certificate.about.index
        path = target / f"sample_{number:06d}.npz"
        if path in paths:
            raise InvalidInputError(f"Two certificates are about sample {number}; save them into different folders.")
        paths[path] = certificate
    return [certificate.save(path) for path, certificate in paths.items()]
