"""The same results on a local Dask cluster as in one process: nothing but joblib is used by the library."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from joblib import parallel_config
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from convexnn.estimators import SafeSNNRegressor
from convexnn.network import Network
from convexnn.search import pattern_search

PACKAGE = Path(__file__).resolve().parents[1] / "convexnn"

slow_on_dask = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # of distributed and tornado, on their way down
]


@contextmanager
def cluster(folder, processes):
    distributed = pytest.importorskip("distributed")
    options = {"n_workers": 2, "threads_per_worker": 1, "processes": processes, "dashboard_address": None}
    with (
        distributed.LocalCluster(local_directory=str(folder), **options) as found,
        distributed.Client(found),
        parallel_config("dask"),
    ):
        yield


def searched(X, y):
    """A grid over the weight and the number of units, in a pipeline."""
    pipeline = make_pipeline(StandardScaler(), SafeSNNRegressor(start="random", tol=1e-5, random_state=0))
    grid = {"safesnnregressor__lam": [1e-2, 10.0], "safesnnregressor__hidden_units": [4, 8]}
    return GridSearchCV(pipeline, grid, cv=2).fit(X, y)


class TestOnACluster:
    """The first on workers that are processes of their own, the second on threads."""

    pytestmark = slow_on_dask

    def test_a_grid_search_finds_the_same_parameters(self, tmp_path):
        rng = np.random.default_rng(0)
        X = rng.standard_normal((80, 3)) * [1.0, 5.0, 0.2] + 2.0
        y = np.sin(X[:, 0]) + 0.1 * X[:, 1] + 0.1 * rng.standard_normal(80)
        serial = searched(X, y)
        with cluster(tmp_path, processes=True):
            spread = searched(X, y)
        assert spread.best_params_ == serial.best_params_
        np.testing.assert_allclose(
            spread.cv_results_["mean_test_score"], serial.cv_results_["mean_test_score"], rtol=1e-7, atol=1e-9
        )
        np.testing.assert_allclose(spread.predict(X), serial.predict(X), rtol=1e-7, atol=1e-9)
        worst = serial.cv_results_["mean_test_score"].min()
        assert serial.best_score_ > worst + 0.1  # the choice matters, so that agreeing on it says something

    def test_a_pattern_search_from_many_starts_finds_the_same_network(self, tmp_path):
        rng = np.random.default_rng(1)
        X = rng.uniform(-2, 2, (40, 2))
        y = np.sin(2 * X[:, 0]) * np.cos(X[:, 1])
        start = Network.shallow(rng.standard_normal((5, 2)), rng.standard_normal(5), rng.standard_normal(5))
        options = {"lam": 1e-3, "rounds": 1, "n_starts": 3, "random_state": 0}
        serial = pattern_search(start, X, y, n_jobs=1, **options)
        with cluster(tmp_path, processes=False):
            spread = pattern_search(start, X, y, n_jobs=2, **options)
        assert spread.objective == pytest.approx(serial.objective, rel=1e-9)
        assert [step.move for step in spread.history] == [step.move for step in serial.history]
        np.testing.assert_allclose(spread.network(X), serial.network(X), rtol=1e-7, atol=1e-9)


def test_no_backend_is_named_in_the_library():
    """joblib alone, and never a backend: what runs where is the caller's choice."""
    for path in PACKAGE.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        for word in ("import dask", "import distributed", "from dask", "from distributed", "import ray", "backend="):
            assert word not in text, f"{path}: {word}"
