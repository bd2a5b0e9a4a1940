"""
Robust regression, with a certificate
=====================================

How much does a network's error grow when the inputs are perturbed, and who can prove that it grows no further?

Two networks are trained on the diabetes data that come with scikit-learn: one by Adam alone, one by the convex
program that the activation patterns of the first one define. Both are attacked, which bounds the worst case from
below, and certified, which bounds it from above.
"""

# %%
# Features and target are standardized with the training rows, so radii are in standard deviations.
from sklearn.datasets import load_diabetes
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from convexnn import SafeSNNRegressor, pretrain
from convexnn.plotting import RobustnessCurveDisplay
from convexnn.report import robustness_sheet, robustness_table

X, y = load_diabetes(return_X_y=True, scaled=False)
X, X_test, y, y_test = train_test_split(X, y, random_state=0)
inputs, target = StandardScaler().fit(X), StandardScaler().fit(y[:, None])
X, X_test = inputs.transform(X), inputs.transform(X_test)
y, y_test = target.transform(y[:, None])[:, 0], target.transform(y_test[:, None])[:, 0]

# %%
# Adam keeps the network that fits a held-out fifth of the rows best. The convex fit starts from it and is never worse
# by the objective MSE + lam L^2.
trained = pretrain(X, y, hidden_units=50, validation=0.2, random_state=0).network
model = SafeSNNRegressor(lam=0.1, start=trained).fit(X, y)
print(f"objective: {model.start_objective_:.3f} at the start, {model.objective_:.3f} after the convex program")
print(f"verified gap of the program with these patterns: {model.solution_.gap:.1e}")
print(f"certified Lipschitz bound: {model.lipschitz_.bound:.3f}")

# %%
# The worst case lies between the two curves of each color.
table = robustness_table({"Adam": trained, "convex": model}, X_test, y_test, [0.05, 0.1, 0.2, 0.4], random_state=0)
_ = RobustnessCurveDisplay.from_table(table, units="standard deviations")
print(robustness_sheet(table))

# %%
# **What was proved.** For the network of the convex program: its training objective is within the gap of the best
# network with these activation patterns, and no perturbation of these test rows within a radius has a larger mean
# squared error than the table says. An attack shows how much of that is reached. Nothing was proved about rows that
# are not here, and the targets themselves promise nothing.
