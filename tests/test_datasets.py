"""Data sets: known labels and values, raw units, fixed split, clear errors."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn import datasets as sklearn_datasets

from convexnn.datasets import load_adversarial_spheres, load_diabetes, make_adversarial_spheres, make_rastrigin
from convexnn.exceptions import InvalidInputError


def test_diabetes_is_in_raw_units_with_a_split_of_all_rows() -> None:
    diabetes = load_diabetes()
    assert diabetes.data.shape == (442, 10)
    age = diabetes.data[:, diabetes.feature_names.index("age")]
    assert (age.min(), age.max()) == (19, 79)  # years
    assert (len(diabetes.train), len(diabetes.test)) == (331, 111)
    np.testing.assert_array_equal(np.sort(np.r_[diabetes.train, diabetes.test]), np.arange(442))
    np.testing.assert_array_equal(diabetes.test, load_diabetes().test)
    # the stream of RandomState is frozen: these are the test rows wherever numpy runs
    np.testing.assert_array_equal(diabetes.test[:6], [1, 4, 5, 6, 7, 8])
    assert "RandomState(0)" in diabetes.DESCR


def test_diabetes_scaled_is_the_raw_data_standardized() -> None:
    raw, scaled = load_diabetes().data, load_diabetes(scaled=True).data
    standardized = (raw - raw.mean(axis=0)) / (raw.std(axis=0) * np.sqrt(len(raw)))
    np.testing.assert_allclose(scaled, standardized, atol=1e-6)
    np.testing.assert_array_equal(scaled, sklearn_datasets.load_diabetes().data)


def test_diabetes_as_frame_and_as_pair() -> None:
    diabetes = load_diabetes(as_frame=True)
    assert isinstance(diabetes.data, pd.DataFrame)
    assert list(diabetes.frame.columns) == [*diabetes.feature_names, "target"]
    X, y = load_diabetes(return_X_y=True)
    np.testing.assert_array_equal(X, diabetes.data)
    np.testing.assert_array_equal(y, diabetes.target)


@pytest.mark.parametrize("norm", [2, np.inf])
def test_spheres_lie_where_their_labels_say(norm: float) -> None:
    X, y = make_adversarial_spheres(401, 5, norm=norm, radius=1.5, random_state=3)
    assert X.shape == (401, 5)
    assert (y == 0).sum() == 201
    size = np.linalg.norm(X, norm, axis=1)
    assert size[y == 0].max() <= 1 + 1e-12
    np.testing.assert_allclose(size[y == 1], 1.5)
    again = make_adversarial_spheres(401, 5, norm=norm, radius=1.5, random_state=np.random.default_rng(3))
    np.testing.assert_array_equal(X, again[0])


@pytest.mark.parametrize("norm", [2, np.inf])
def test_the_inner_ball_is_filled_uniformly(norm: float) -> None:
    X, y = make_adversarial_spheres(20_000, 3, norm=norm, random_state=0)
    size = np.linalg.norm(X[y == 0], norm, axis=1)
    # P(|x| <= r) = r^3; standard error of a share of 10,000 is 0.005
    for r in (0.5, 0.8):
        assert np.mean(size <= r) == pytest.approx(r**3, abs=0.02)
    assert np.abs(X.mean(axis=0)).max() < 0.03


@pytest.mark.parametrize(("share", "inner"), [(0.0, 0), (0.1, 4), (0.5, 16), (1.0, 31)])
def test_the_share_of_the_inner_ball_is_as_asked(share: float, inner: int) -> None:
    X, y = make_adversarial_spheres(31, 4, inner_share=share, random_state=1)
    assert (y == 0).sum() == inner  # rounded up: 3.1 -> 4, 15.5 -> 16
    np.testing.assert_array_equal(np.linalg.norm(X, axis=1) > 1.2, y == 1)


@pytest.mark.parametrize(("name", "norm"), [("D2", 2), ("Dinf", np.inf)])
def test_loaded_spheres_have_three_parts(name: str, norm: float) -> None:
    spheres = load_adversarial_spheres(name, d=3, radius=1.2, sizes=(50, 20, 30), inner_share=0.2, random_state=4)
    parts = [spheres.train, spheres.validation, spheres.test]
    np.testing.assert_array_equal(np.concatenate(parts), np.arange(100))
    assert [len(rows) for rows in parts] == [50, 20, 30]
    X, y = load_adversarial_spheres(
        name, d=3, radius=1.2, sizes=(50, 20, 30), inner_share=0.2, random_state=4, return_X_y=True
    )
    np.testing.assert_array_equal(X, spheres.data)
    np.testing.assert_allclose(np.linalg.norm(X[y == 1], norm, axis=1), 1.2)
    assert "|x|" in spheres.DESCR
    assert (spheres.target == 0).sum() == 20


def test_rastrigin_has_its_known_values() -> None:
    X, y = make_rastrigin(300, 3, random_state=1)
    assert np.abs(X).max() <= 5.12
    # |cos| <= 1: between sum x^2 and sum x^2 + 20 d
    assert (y >= (X**2).sum(axis=1) - 1e-9).all()
    assert (y <= (X**2).sum(axis=1) + 60 + 1e-9).all()
    near, value = make_rastrigin(5, 2, low=-1e-9, high=1e-9, random_state=1)  # the minimum 0 is at 0
    assert near.shape == (5, 2)
    np.testing.assert_allclose(value, 0.0, atol=1e-9)


def test_rastrigin_noise_has_the_asked_size() -> None:
    X, y = make_rastrigin(4000, 2, noise=3.0, random_state=1)
    same, clean = make_rastrigin(4000, 2, random_state=1)
    np.testing.assert_array_equal(X, same)
    assert np.std(y - clean) == pytest.approx(3.0, rel=0.05)


BAD = [
    (make_adversarial_spheres, {"n_samples": 0}, "n_samples"),
    (make_adversarial_spheres, {"d": 2.5}, "d must"),
    (make_adversarial_spheres, {"norm": 1}, "norm"),
    (make_adversarial_spheres, {"radius": 1.0}, "radius"),
    (make_adversarial_spheres, {"random_state": "no"}, "random_state"),
    (make_adversarial_spheres, {"inner_share": 1.5}, "inner_share"),
    (load_adversarial_spheres, {"name": "D3"}, "name must be"),
    (load_adversarial_spheres, {"sizes": (5, 5)}, "sizes"),
    (load_adversarial_spheres, {"sizes": (5, 5, 0)}, "each of sizes"),
    (make_rastrigin, {"noise": -1.0}, "noise"),
    (make_rastrigin, {"low": 1.0, "high": 1.0}, "low < high"),
    (make_rastrigin, {"high": np.inf}, "finite"),
]


@pytest.mark.parametrize(("maker", "arguments", "named"), BAD)
def test_bad_arguments_are_named(maker, arguments, named) -> None:
    with pytest.raises(InvalidInputError, match=named):
        maker(**arguments)


def test_legacy_random_states_are_taken() -> None:
    a = make_rastrigin(4, 2, random_state=np.random.RandomState(0))
    b = make_rastrigin(4, 2, random_state=np.random.RandomState(0))
    np.testing.assert_array_equal(a[0], b[0])
