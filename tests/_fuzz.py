"""Inputs that users have by accident, and every public function that takes them, with what must hold of its results."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse import csr_array

import convexnn
from convexnn import L2Ball, LInfBall, Network
from convexnn.patterns import enumerate_patterns, sample
from convexnn.restrictions import (
    GatedGroupLasso,
    LipschitzProgram,
    LipschitzRestriction,
    PolynomialProgram,
    ReluGroupLasso,
    RobustRelu,
)

#: Errors whose messages are sentences for users; anything else that leaves the library is a defect.
CLEAR = (convexnn.ConvexNNError, ValueError, TypeError)
#: Words of errors that come from deep inside of numpy and say nothing to a user.
OBSCURE = ("broadcast", "unhashable", "did not converge", "singular", "NoneType", "subscriptable")


@dataclass(frozen=True)
class Call:
    """A public function of data.

    Attributes
    ----------
    run : callable
        From X and y to (numbers that equal data must repeat, what is wrong with the result).
    uses_y : bool
    """

    run: Callable[[Any, Any], tuple[np.ndarray, list[str]]]
    uses_y: bool = True


def network_for(X: Any, units: int = 3, seed: int = 0) -> Network:
    """A network for inputs of the shape and the scale of X, one dead unit among its units."""
    rng = np.random.default_rng(seed)
    try:
        shape = np.shape(X)
    except ValueError:  # ragged
        shape = ()
    d = shape[1] if len(shape) == 2 and shape[1] else 2
    W = rng.standard_normal((units, d))
    W[-1] = 0.0
    return Network.shallow(W, rng.standard_normal(units), rng.standard_normal(units), 0.1)


def signs(y: Any) -> Any:
    """Targets as labels -1 / +1, whatever they are; what cannot be compared stays."""
    try:
        values = np.asarray(y)
        usable = values.size and values.dtype.kind in "biuf" and np.isfinite(values.astype(float)).all()
        return np.where(values > np.median(values), 1.0, -1.0) if usable else y
    except (TypeError, ValueError):
        return y


def labels(y: Any) -> Any:
    """Targets as 0 / 1, whatever they are; what cannot be compared stays."""
    found = signs(y)
    return found if found is y else (found > 0).astype(int)


def _solution(solution: Any) -> list[str]:
    wrong = []
    if not np.isfinite(solution.objective):
        wrong.append(f"objective {solution.objective}")
    if np.isnan([solution.lower_bound, solution.gap, solution.violation]).any():
        wrong.append(f"NaN in {solution.lower_bound, solution.gap, solution.violation}")
    if solution.lower_bound > solution.objective + 1e-9 * abs(solution.objective) + 1e-300:
        wrong.append(f"lower bound {solution.lower_bound} above {solution.objective}")
    return wrong


def _program(make: Callable[[Any, Any], Any]) -> Call:
    def run(X: Any, y: Any) -> tuple[np.ndarray, list[str]]:
        program = make(X, y)
        solution = convexnn.solve(program, tol=1e-4, max_iter=60)
        network = program.decode(solution.z) if hasattr(program, "decode") else None
        wrong = _solution(solution)
        if network is not None and not np.isfinite(np.asarray(network(np.asarray(X, dtype=float)))).all():
            wrong.append("predictions are not finite")
        return np.array([solution.objective]), wrong

    return Call(run)


def _estimator(make: Callable[[], Any], targets: Callable[[Any], Any] = lambda y: y) -> Call:
    def run(X: Any, y: Any) -> tuple[np.ndarray, list[str]]:
        model = make().fit(X, targets(y))
        out = model.predict(X) if hasattr(model, "predict") else model.transform(X)
        numbers = np.asarray(out, dtype=float)
        wrong = [] if np.isfinite(numbers).all() else ["predictions are not finite"]
        solution = getattr(model, "solution_", None)
        return numbers.ravel(), wrong + ([] if solution is None else _solution(solution))

    return Call(run)


def _extract(X: Any, _: Any) -> tuple[np.ndarray, list[str]]:
    return convexnn.extract(network_for(X), X).D.astype(float).ravel(), []


def _certify(X: Any, y: Any) -> tuple[np.ndarray, list[str]]:
    network, threat = network_for(X), LInfBall(1e-3)
    report = convexnn.certify(network, X, labels(y), threat, method=("crown", "lp"))
    inputs = np.asarray(X, dtype=float)
    around = threat.sample(inputs, np.random.default_rng(0))
    kept = [verdict.status == "certified" for verdict in report.verdicts]
    changed = (network(around) > 0) != (np.asarray(labels(y)) > 0)
    wrong = ["a certified sample changes its label"] if (np.array(kept) & changed).any() else []
    return report.margins, wrong


def _attack(X: Any, y: Any) -> tuple[np.ndarray, list[str]]:
    network = network_for(X)
    found = convexnn.attack(network, X, y, L2Ball(1e-3), random_state=0, steps=3, restarts=2, loss="squared")
    inputs = np.asarray(X, dtype=float)
    inside = np.linalg.norm(found.X_adv - inputs, axis=1) <= 1e-3 * (1 + 1e-9) + 1e-12 * np.abs(inputs).max()
    return found.values, ([] if inside.all() else ["an attack left its ball"]) + (
        [] if np.isfinite(found.values).all() else ["values are not finite"]
    )


def _path(X: Any, y: Any) -> tuple[np.ndarray, list[str]]:
    found = convexnn.path(X, y, network_for(X), regularizer="l2", n_lams=2, lam_ratio=1e-2, tol=1e-3)
    return np.array([s.objective for s in found.solutions]), [each for s in found.solutions for each in _solution(s)]


def _lam_max(X: Any, y: Any) -> tuple[np.ndarray, list[str]]:
    value = convexnn.lam_max(X, y)
    return np.array([value]), [] if np.isfinite(value) and value >= 0 else [f"lam_max {value}"]


def _refine(X: Any, y: Any) -> tuple[np.ndarray, list[str]]:
    found = convexnn.refine(network_for(X), X, y, tol=1e-4)
    wrong = [] if np.isfinite(found.after) and found.after <= found.before else [f"{found.before} -> {found.after}"]
    return np.array([found.after]), wrong


def _search(X: Any, y: Any) -> tuple[np.ndarray, list[str]]:
    found = convexnn.pattern_search(network_for(X), X, y, regularizer="l2", rounds=1, random_state=0)
    before, after = found.start_objective, found.objective
    return np.array([after]), [] if after <= before else [f"{before} -> {after}"]


def _global(X: Any, y: Any) -> tuple[np.ndarray, list[str]]:
    found = convexnn.optimality_gap(network_for(X), X, y, 0.1, time_limit=2.0, random_state=0)
    numbers = np.array([found.objective, found.lower_bound])
    return numbers[:1], [] if numbers[1] <= numbers[0] * (1 + 1e-9) else [f"bound {numbers[1]} above {numbers[0]}"]


def _distance(X: Any, y: Any) -> tuple[np.ndarray, list[str]]:
    shallow = network_for(X)
    network = Network(shallow.layers, "polynomial")
    exact, proved = (
        function(network, X, labels(y)) for function in (convexnn.distance_to_boundary, convexnn.certified_radius)
    )
    return exact, [] if (proved <= exact * (1 + 1e-6) + 1e-300).all() else ["a certified radius beyond the boundary"]


def _table(X: Any, y: Any) -> tuple[np.ndarray, list[str]]:
    table = convexnn.robustness_table({"net": network_for(X)}, X, y, [0.0, 1e-3], steps=2, restarts=1, random_state=0)
    columns = table.to_columns()
    lower, upper = np.array(columns["attacked"]), np.array(columns["certified"])
    return lower, [] if (lower <= upper).all() else [f"attacked {lower} above certified {upper}"]


def _transform(X: Any, _: Any) -> tuple[np.ndarray, list[str]]:
    return convexnn.ActivationPatternTransformer(3, random_state=0).fit_transform(X).ravel(), []


SNN = {"hidden_units": 3, "start": "random", "random_state": 0, "tol": 1e-4, "max_iter": 60}

CALLS: dict[str, Call] = {
    "extract": Call(_extract, uses_y=False),
    "sample": Call(lambda X, _: (sample(X, 4, random_state=0).D.astype(float).ravel(), []), uses_y=False),
    "enumerate": Call(lambda X, _: (np.array([enumerate_patterns(X).n_patterns]), []), uses_y=False),
    "group lasso": _program(lambda X, y: ReluGroupLasso(X, y, sample(X, 3, random_state=0), 0.01)),
    "gated": _program(lambda X, y: GatedGroupLasso(X, y, sample(X, 3, random_state=0), 0.01)),
    "lipschitz program": _program(lambda X, y: LipschitzProgram(X, y, sample(X, 3, random_state=0), 0.01)),
    "restriction": _program(lambda X, y: LipschitzRestriction.at(network_for(X), X, y, 0.01)),
    "robust relu": _program(lambda X, y: RobustRelu(X, signs(y), sample(X, 2, random_state=0), 0.01, 1e-3)),
    "polynomial": _program(lambda X, y: PolynomialProgram(X, signs(y), lam=0.1, radius=1e-3)),
    "lam_max": Call(_lam_max),
    "path": Call(_path),
    "refine": Call(_refine),
    "pattern_search": Call(_search),
    "optimality_gap": Call(_global),
    "certify": Call(_certify),
    "attack": Call(_attack),
    "distance": Call(_distance),
    "robustness_table": Call(_table),
    "transformer": Call(_transform, uses_y=False),
    "regressor": _estimator(lambda: convexnn.SafeSNNRegressor(**SNN)),
    "regressor l2": _estimator(lambda: convexnn.SafeSNNRegressor(**SNN, regularizer="l2")),
    "regressor cv": _estimator(lambda: convexnn.SafeSNNRegressorCV(**SNN, regularizer="l2", n_lams=2, cv=2)),
    "classifier": _estimator(lambda: convexnn.SafeSNNClassifier(**SNN), labels),
    "polynomial regressor": _estimator(lambda: convexnn.PolynomialSNNRegressor(tol=1e-3)),
    "polynomial classifier": _estimator(lambda: convexnn.PolynomialSNNClassifier(tol=1e-3), labels),
}


def plain(seed: int = 0, n: int = 12, d: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Data that nothing is wrong with; entries are exact in float32."""
    rng = np.random.default_rng(seed)
    X = np.round(rng.standard_normal((n, d)) * 64) / 64
    return X, np.round((np.abs(X[:, 0]) + 0.3 * X[:, -1]) * 64) / 64


def _put(value: float) -> Callable[[Any, Any], tuple[Any, Any]]:
    def change(X: Any, y: Any) -> tuple[Any, Any]:
        X = X.copy()
        X[1, -1] = value
        return X, y

    return change


def _frame(X: np.ndarray, **more: Any) -> Any:
    import pandas as pd

    return pd.DataFrame(dict(zip("abcdef", X.T, strict=False)) | more)


#: Must be refused in a sentence.
REFUSED: dict[str, Callable[[Any, Any], tuple[Any, Any]]] = {
    "NaN": _put(np.nan),
    "inf": _put(np.inf),
    "-inf": _put(-np.inf),
    "overflow": _put(1e300),
    "one dimension": lambda X, y: (X[:, 0], y),
    "three dimensions": lambda X, y: (X[:, :, None], y),
    "no rows": lambda X, y: (X[:0], y[:0]),
    "no columns": lambda X, y: (X[:, :0], y),
    "complex": lambda X, y: (X + 1j, y),
    "sparse": lambda X, y: (csr_array(X), y),
    "strings": lambda X, y: (np.full(X.shape, "red"), y),
    "objects": lambda X, y: (np.where(X > 0, "red", None), y),
    "ragged": lambda X, y: ([[1.0], [1.0, 2.0]] * (len(X) // 2), y),
    "categories": lambda X, y: (_frame(X, c=np.array(["red", "green"] * (len(X) // 2))), y),
    "a number": lambda X, y: (3.0, y),
    "None": lambda X, y: (None, y),
}
#: The same with targets.
REFUSED_TARGETS: dict[str, Callable[[Any, Any], tuple[Any, Any]]] = {
    "NaN target": lambda X, y: (X, np.where(np.arange(len(y)) == 1, np.nan, y)),
    "infinite target": lambda X, y: (X, np.where(np.arange(len(y)) == 1, np.inf, y)),
    "too few targets": lambda X, y: (X, y[:-1]),
    "no targets": lambda X, y: (X, None),
    "complex targets": lambda X, y: (X, y + 1j),
}


def _memmap(X: np.ndarray) -> np.ndarray:
    import tempfile

    file = tempfile.NamedTemporaryFile(suffix=".npy")  # noqa: SIM115  (kept open by the array)
    mapped = np.memmap(file, dtype=X.dtype, mode="w+", shape=X.shape)
    mapped[:] = X
    mapped.flush()
    mapped.flags.writeable = False
    return mapped


def _readonly(X: np.ndarray) -> np.ndarray:
    X = X.copy()
    X.flags.writeable = False
    return X


#: Other ways to hand over the same numbers: the same result.
SAME: dict[str, Callable[[Any, Any], tuple[Any, Any]]] = {
    "Fortran order": lambda X, y: (np.asfortranarray(X), y),
    "read-only": lambda X, y: (_readonly(X), _readonly(y)),
    "memory-mapped": lambda X, y: (_memmap(X), _memmap(y)),
    "strided": lambda X, y: (np.repeat(X, 2, axis=1)[:, ::2], np.repeat(y, 2)[::2]),
    "reversed twice": lambda X, y: (X[::-1].copy()[::-1], y[::-1].copy()[::-1]),
    "float32": lambda X, y: (X.astype(np.float32), y.astype(np.float32)),
    "lists": lambda X, y: (X.tolist(), y.tolist()),
    "a frame": lambda X, y: (_frame(X), y),
    "objects that are numbers": lambda X, y: (X.astype(object), y),
    "big endian": lambda X, y: (X.astype(">f8"), y.astype(">f8")),
}

#: Legal data that are hard: a sound result or a sentence.
HARD: dict[str, Callable[[Any, Any], tuple[Any, Any]]] = {
    "one sample": lambda X, y: (X[:1], y[:1]),
    "two samples": lambda X, y: (X[:2], y[:2]),
    "one feature": lambda X, y: (X[:, :1], y),
    "constant column": lambda X, y: (np.column_stack([X[:, 0], np.ones(len(X))]), y),
    "constant features": lambda X, y: (np.ones_like(X), y),
    "zero features": lambda X, y: (np.zeros_like(X), y),
    "repeated rows": lambda X, y: (np.repeat(X[:3], len(X) // 3, axis=0), y),
    "constant target": lambda X, y: (X, np.full_like(y, 3.0)),
    "zero target": lambda X, y: (X, np.zeros_like(y)),
    "booleans": lambda X, y: (X > 0, y),
    "integers": lambda X, y: (np.rint(X).astype(int), np.rint(y).astype(int)),
    "small unsigned integers": lambda X, y: (np.abs(np.rint(X)).astype(np.uint8), y),
    "float16": lambda X, y: (X.astype(np.float16), y),
    **{
        f"features of 1e{k}": (lambda X, y, k=k: (X * 10.0**k, y)) for k in (-310, -200, -100, -30, -9, 9, 30, 100, 149)
    },
    **{f"targets of 1e{k}": (lambda X, y, k=k: (X, y * 10.0**k)) for k in (-310, -200, -100, -30, -9, 9, 30, 100, 149)},
    "columns of 1e-100 and 1e100": lambda X, y: (X * [1e-100, 1e100], y),
    "columns of 1e-12 and 1e12": lambda X, y: (X * [1e-12, 1e12], y),
    "far from the origin": lambda X, y: (X + 1e8, y),
    "negative zeros": lambda X, y: (np.where(X > 0, -0.0, X), y),
}


def judge(call: Call, X: Any, y: Any) -> tuple[str, np.ndarray | None]:
    """What is wrong with a call, "" when nothing is, "refused: ..." for a clear sentence; and its numbers."""
    try:
        numbers, wrong = call.run(X, y)
    except CLEAR as error:
        text = str(error)
        if isinstance(error, np.linalg.LinAlgError) or len(text) < 15 or any(word in text for word in OBSCURE):
            return f"obscure {type(error).__name__}: {text}", None
        return f"refused: {text}", None
    return "; ".join(wrong), np.asarray(numbers, dtype=float)
