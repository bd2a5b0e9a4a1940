"""Data sets that scikit-learn bundles, in raw units and with a fixed split into training and test rows."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn import datasets as sklearn_datasets
from sklearn.utils import Bunch

SPLIT_SEED = 0
TEST_SHARE = 0.25

_SPLIT_NOTE = """
Units and split (convexnn)
--------------------------

Features are in the units in which they were measured unless ``scaled=True``, so radii and Lipschitz constants can
be read in years, kg/m2, mm Hg and so on. ``train`` and ``test`` hold row numbers of a fixed split: the first quarter
of ``numpy.random.RandomState(0).permutation(n)``, sorted, is the test set.
"""


def load_diabetes(*, return_X_y: bool = False, as_frame: bool = False, scaled: bool = False) -> Any:
    """Diabetes progression of 442 patients from 10 measurements, in raw units, with a fixed split.

    Parameters
    ----------
    return_X_y : bool
        Whether to return ``(data, target)`` instead of a Bunch.
    as_frame : bool
        Whether data and target are pandas objects; needs pandas.
    scaled : bool
        Whether features are scikit-learn's centered ones, each column of norm 1; else years, kg/m2 and so on.

    Returns
    -------
    Bunch
        ``data`` (442, 10), ``target`` (442,), ``train`` (331,) and ``test`` (111,) row numbers, ``feature_names``,
        ``target_name``, ``frame`` (None unless ``as_frame``) and ``DESCR``.

    Examples
    --------
    >>> from convexnn.datasets import load_diabetes
    >>> diabetes = load_diabetes()
    >>> X_train, y_train = diabetes.data[diabetes.train], diabetes.target[diabetes.train]
    >>> X_train.shape
    (331, 10)
    """
    source = sklearn_datasets.load_diabetes(as_frame=as_frame, scaled=scaled)
    if return_X_y:
        return source.data, source.target
    train, test = _fixed_split(len(source.target))
    return Bunch(
        data=source.data,
        target=source.target,
        train=train,
        test=test,
        feature_names=list(source.feature_names),
        target_name="disease progression after one year",
        frame=source.frame,
        DESCR=source.DESCR + _SPLIT_NOTE,
    )


def _fixed_split(n: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    # RandomState, because numpy promises that its stream never changes; default_rng's may
    order = np.random.RandomState(SPLIT_SEED).permutation(n)
    number = math.ceil(TEST_SHARE * n)
    return np.sort(order[number:]), np.sort(order[:number])
