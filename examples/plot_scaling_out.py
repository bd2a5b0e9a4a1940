"""
Scaling out: the same results on many workers
=============================================

A grid search takes minutes, a certification run hours. How do you spread them over cores or machines without changing
a result?

convexnn uses joblib and never names a backend: what runs where is your choice, made once with
``joblib.parallel_config``. Here two threads stand for the cluster, so that this page can be built anywhere; the same
block with Dask is at the end.
"""

# %%
# Three jobs that are made of independent parts: a search over parameters, verdicts on samples, searches from several
# starts.
import time

import numpy as np
from joblib import parallel_config
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from convexnn import L2Ball, SafeSNNRegressor, certify, pattern_search, pretrain

rng = np.random.default_rng(0)
X = rng.uniform(-2, 2, (40, 2))
y = np.sin(2 * X[:, 0]) * np.cos(X[:, 1]) + 0.1 * rng.standard_normal(40)
digits, labels = load_digits(return_X_y=True)
digits = digits / 16
judged = MLPClassifier((16,), alpha=1e-2, max_iter=200, tol=1e-2, random_state=0).fit(digits[:1200], labels[:1200])
start = pretrain(X, y, hidden_units=5, epochs=200, random_state=0).network


def grid_search():
    """The best weight and width, by cross-validation."""
    pipeline = make_pipeline(StandardScaler(), SafeSNNRegressor(tol=1e-3, random_state=0))
    grid = {"safesnnregressor__lam": [1e-3, 1e-1], "safesnnregressor__hidden_units": [3, 6]}
    return GridSearchCV(pipeline, grid, cv=2).fit(X, y).best_params_


def certification():
    """How many of 64 digits are certified, falsified, unknown."""
    method = ("crown", "sdp")
    return certify(judged, digits[1200:1264], labels[1200:1264], L2Ball(0.3), method=method, random_state=0).counts


def many_starts():
    """The objective after pattern searches from two starts."""
    return pattern_search(start, X, y, lam=1e-3, rounds=1, n_starts=2, random_state=0).objective


# %%
# Once in this process, once on two workers. Seeds are drawn before anything is spread, so results do not depend on who
# computes what, nor on how many do.
jobs = {"grid search": grid_search, "certification": certification, "pattern search": many_starts}
results = {}
for where in ("one process", "two workers"):
    for name, job in jobs.items():
        began = time.perf_counter()
        if where == "one process":
            found = job()
        else:
            with parallel_config("threading", n_jobs=2):
                found = job()
        print(f"{where:12} {name:15} {time.perf_counter() - began:5.1f} s   {found}")
        results[where, name] = found
for name in jobs:
    one, two = results["one process", name], results["two workers", name]
    assert one == two or np.isclose(one, two, rtol=1e-9), name
print("the results are the same")

# %%
# The same on a Dask cluster, on this machine or on many:
#
# .. code-block:: python
#
#     from dask.distributed import Client
#
#     with Client("scheduler-address:8786"), parallel_config("dask"):
#         grid_search()
#         certification()
#
# Small jobs lose by it: a worker process takes seconds to start, and these jobs take less. It pays from minutes on.
# A long certification run also writes every verdict to a file (``output="run.jsonl"``) and goes on from there after it
# was stopped or killed.
#
# **What is the same, and what is not.** Verdicts, margins, scores and networks do not depend on the workers, as long as
# no time limit cuts a computation short. How long it takes does.
