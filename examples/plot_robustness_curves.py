"""
Which network withstands perturbed inputs?
==========================================

Three ways to fit the diabetes data that come with scikit-learn are compared on the rows that they have not seen:
scikit-learn's ``MLPRegressor``, the same network after :func:`convexnn.refine`, and
:class:`convexnn.SafeSNNRegressor`. Each is trained three times, on three splits. How fast do their errors grow with
the size of a perturbation, and how fast can they grow at most?
"""

# %%
# A trial trains the three models and judges them by the same attacks and certificates. Features and target are
# standardized with the training rows, so radii are in standard deviations.
from sklearn.datasets import load_diabetes
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPRegressor
from sklearn.preprocessing import StandardScaler

from convexnn import SafeSNNRegressor, refine, robustness_table
from convexnn.plotting import RobustnessCurveDisplay
from convexnn.report import robustness_sheet, stack_trials

RADII = [0.1, 0.2, 0.3, 0.4, 0.5]
LAM = 0.3  # weight of the squared Lipschitz bound


def run_trial(seed):
    """Train the three models on one split and judge them on its test rows."""
    X, y = load_diabetes(return_X_y=True, scaled=False)
    X, X_test, y, y_test = train_test_split(X, y, random_state=seed)
    inputs, target = StandardScaler().fit(X), StandardScaler().fit(y[:, None])
    X, X_test = inputs.transform(X), inputs.transform(X_test)
    y, y_test = target.transform(y[:, None])[:, 0], target.transform(y_test[:, None])[:, 0]

    mlp = MLPRegressor(hidden_layer_sizes=30, early_stopping=True, learning_rate_init=0.01, random_state=seed).fit(X, y)
    refined = refine(mlp, X, y, lam=LAM).model
    safe = SafeSNNRegressor(hidden_units=30, lam=LAM, random_state=seed).fit(X, y)
    models = {"MLPRegressor": mlp, "refined": refined, "SafeSNNRegressor": safe}
    return robustness_table(models, X_test, y_test, RADII, restarts=2, random_state=seed, n_jobs=1)


tables = [run_trial(seed) for seed in range(3)]
print(robustness_sheet(tables[0]))

# %%
# Medians over the trials; the bands reach from the lower to the upper quartile. The worst case of each model lies
# between its solid curve, which an attack reached, and its dashed curve, which no perturbation exceeds. Where one
# model's dashed curve is below another's solid curve, it is proved to be the more robust one on these rows.
trials = stack_trials(tables)
_ = RobustnessCurveDisplay.from_trials(trials, units="standard deviations")

# %%
# What the certificates are made of: the Lipschitz bounds.
for name, bound in zip(trials.names, trials.median("lipschitz"), strict=True):
    print(f"{name:17} L <= {bound:.3f} (median of {len(trials.tables)} trials)")
