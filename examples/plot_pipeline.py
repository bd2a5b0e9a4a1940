"""
Choosing lam and the width in a pipeline
========================================

Your data are in all kinds of units and go through a scaler. How do you choose the weight of the Lipschitz bound and the
number of units by cross-validation, like any other parameter, and what does the certificate say in *your* units?

``SafeSNNRegressor`` is an ordinary scikit-learn estimator, so ``GridSearchCV`` does the choosing. Then the scaler is
folded into the network, and everything that is certified is about raw inputs.
"""

# %%
# Diabetes measurements as they come: years, mm Hg, mg/dl.
import numpy as np
from sklearn.datasets import load_diabetes
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from convexnn import L2Ball, SafeSNNRegressor, as_network, attack, lipschitz
from convexnn.plotting import LipschitzDisplay
from convexnn.report import fit_report

X, y = load_diabetes(return_X_y=True, scaled=False)
X, X_test, y, y_test = train_test_split(X, y, random_state=0)
print("standard deviations of the columns:", np.round(X.std(axis=0), 1))

# %%
# The grid. Every candidate trains a start, solves the convex program of its activation patterns and is scored on
# rows it has not seen; ``random_state`` makes the search repeatable, whatever ``n_jobs`` is.
pipeline = make_pipeline(StandardScaler(), SafeSNNRegressor(tol=1e-3, random_state=0))
grid = {"safesnnregressor__lam": [0.01, 0.03, 0.1, 0.3], "safesnnregressor__hidden_units": [5, 15]}
search = GridSearchCV(pipeline, grid, scoring="neg_mean_squared_error", cv=3).fit(X, y)
scores = search.cv_results_
for parameters, mean, deviation in zip(
    scores["params"], scores["mean_test_score"], scores["std_test_score"], strict=True
):
    values = ", ".join(f"{name.partition('__')[2]}={value:g}" for name, value in parameters.items())
    print(f"{values:28} held-out MSE {-mean:6.0f} +- {deviation:4.0f}")
print("chosen:", search.best_params_)

# %%
# The held-out error is flat where ``lam`` is small. Among candidates that are within one standard deviation of the
# best, the largest ``lam`` has the smallest Lipschitz bound: the error cannot tell them apart, the certificate can.
near = -scores["mean_test_score"] <= -search.best_score_ + scores["std_test_score"][search.best_index_]
safest = max((scores["params"][k] for k in np.flatnonzero(near)), key=lambda p: p["safesnnregressor__lam"])
models = {"least held-out error": search.best_estimator_, "safest within a deviation": pipeline.set_params(**safest)}
for name, model in models.items():
    model.fit(X, y)
    error = np.mean((model.predict(X_test) - y_test) ** 2)
    scaled, raw = model[-1].lipschitz_.bound, lipschitz(as_network(model)).bound
    print(f"{name:26} test MSE {error:.0f}, L <= {scaled:.1f} per standard deviation, <= {raw:.1f} in raw units")

# %%
# The two brackets in raw units: what an input attains, and what is proved.
_ = LipschitzDisplay.from_networks(models, X)

# %%
# The unit matters. A raw radius of 1 is one mm Hg, less than a tenth of the spread of one column, and more than all of
# another's; so perturbations are stated behind the scaler here, where they are standard deviations.
chosen = models["safest within a deviation"]
scaler, model = chosen[0], chosen[-1]
threat = L2Ball(0.2)
Z = scaler.transform(X_test)
low, high = model.certified_interval(Z, threat)
worst = attack(model, Z, y_test, threat, random_state=0).values.mean()
print(f"a fifth of a standard deviation moves a prediction by at most {np.mean(high - low) / 2:.1f} (proved)")
proved = model.certify(Z, y_test, threat).certified_mse
print(f"worst-case MSE: at least {worst:.0f} (attack), at most {proved:.0f} (proved)")

# %%
# Everything that is known about the fit, as text here and as one page by ``to_html``.
print(fit_report(chosen, X_test, y_test, [0.5, 1.0]))

# %%
# **What was proved.** For the fitted pipeline: its network is optimal for its activation patterns up to the gap, and
# its Lipschitz constant is at most the bound, in the units named. That ``lam`` is the best choice is *not* proved:
# that was cross-validation.
