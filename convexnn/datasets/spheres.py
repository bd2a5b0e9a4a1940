"""Adversarial Spheres with a fixed seed, in rows for training, for validation and for the test."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils import Bunch

from convexnn.datasets.bunches import make_bunch
from convexnn.datasets.synthetic import _check_count, make_adversarial_spheres
from convexnn.exceptions import InvalidInputError

NORMS = {"D2": 2.0, "Dinf": np.inf}

_DESCRIPTION = """Adversarial Spheres {name}
------------------------

{n} samples of {d} features: {inner} of class 0, uniform in |x|_{p} <= 1, and {outer} of class 1, uniform on
|x|_{p} = {radius:g}. Drawn by make_adversarial_spheres with the random state {seed!r}; the first {n_train} rows are for
training, the next {n_validation} for the choice of parameters, the last {n_test} for the test. A classifier that is
safe on the inner ball is safe on ``L2Ball(1.0)`` (D2) or ``LInfBall(1.0)`` (Dinf).

Origin: Gilmer et al. (2018), Adversarial Spheres, with the inner sphere filled; D2 and Dinf as in Soletskyi and
Dalrymple (2024). The radius 1.3 is that of Gilmer et al.
"""


def load_adversarial_spheres(
    name: str = "D2",
    *,
    d: int = 10,
    radius: float = 1.3,
    inner_share: float = 0.5,
    sizes: tuple[int, int, int] = (4000, 2000, 20_000),
    random_state: int = 0,
    return_X_y: bool = False,
    as_frame: bool = False,
) -> Any:
    """Two classes, a ball and a sphere around it, in training, validation and test rows.

    Parameters
    ----------
    name : {"D2", "Dinf"}
        Round balls, or cubes.
    d : int
        Features.
    radius : float
        Of the outer sphere, above 1, the radius of the inner ball.
    inner_share : float
        Share of the inner class, from 0 to 1.
    sizes : tuple of three int
        Rows for training, validation and test.
    random_state : int
        Seed: the same number gives the same rows.
    return_X_y : bool
        Whether to return ``(data, target)`` instead of a Bunch.
    as_frame : bool
        Whether data and target are pandas objects; needs pandas.

    Returns
    -------
    Bunch
        ``data`` (n, d), ``target`` (n,) with 0 on the inner ball and 1 on the outer sphere; ``train``, ``validation``
        and ``test`` row numbers; ``norm``, ``radius``, ``feature_names``, ``target_names``, ``frame``, ``DESCR``.

    Examples
    --------
    >>> from convexnn.datasets import load_adversarial_spheres
    >>> spheres = load_adversarial_spheres("Dinf", d=5)
    >>> spheres.data[spheres.train].shape
    (4000, 5)
    """
    if name not in NORMS:
        raise InvalidInputError(f"name must be one of {tuple(NORMS)}, got {name!r}.")
    if len(sizes) != 3:
        raise InvalidInputError(f"sizes must be three numbers of rows: training, validation, test; got {sizes!r}.")
    for size in sizes:
        _check_count(size, "each of sizes")
    n = int(sum(sizes))
    options = {"norm": NORMS[name], "radius": radius, "inner_share": inner_share}
    X, y = make_adversarial_spheres(n, d, **options, random_state=random_state)
    names = [f"x{k}" for k in range(d)]
    found = make_bunch(X, y, names, "sphere", rows=None, return_X_y=return_X_y, as_frame=as_frame)
    if return_X_y:
        return found
    starts = np.cumsum((0, *sizes))
    rows = {part: np.arange(starts[k], starts[k + 1]) for k, part in enumerate(("train", "validation", "test"))}
    description = _DESCRIPTION.format(
        name=name, n=n, d=d, inner=int((y == 0).sum()), outer=int((y == 1).sum()), p="2" if name == "D2" else "inf",
        radius=radius, seed=random_state, n_train=sizes[0], n_validation=sizes[1], n_test=sizes[2],
    )  # fmt: skip
    return Bunch(**found, **rows, norm=NORMS[name], radius=radius, DESCR=description)
