"""
What does one convex program buy?
=================================

Question: a network was trained by Adam. How much better is the best network with the *same activation patterns*, how do
we know, and what can be promised about it under attack?

The data are scikit-learn's diabetes measurements: 442 patients, ten inputs, disease progression after a year.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_diabetes
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

import convexnn
from convexnn.plotting import PatternDisplay

X, y = load_diabetes(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0)
scaler = StandardScaler().fit(X_train)
X_train, X_test = scaler.transform(X_train), scaler.transform(X_test)

# %%
# ``fit`` pretrains with Adam, reads which units are active on which rows, and solves the convex program that these
# patterns define. The gap is between the objective and a lower bound that a multiplier proves; both are recomputed from
# the data.

model = convexnn.SafeSNNRegressor(hidden_units=30, lam=0.5, random_state=0).fit(X_train, y_train)

for step in model.history_:
    print(f"{step['stage']:>8}: objective {step['objective']:10.3f}")
print(f"No network with these patterns is better by more than {model.solution_.gap:.1e} of that.")

# %%
# The certificate is an upper bound on the Lipschitz constant. Its multiplier proves it again, without the solver.

certificate = model.lipschitz_
print(f"Certified: Lipschitz constant <= {certificate.check(model.network_):.2f}")

# %%
# An attack finds inputs that do harm, so it bounds the worst case from below; the certificate bounds it from above. On
# each sample the error can grow by at most the radius times the Lipschitz bound.

errors = np.abs(model.predict(X_test) - y_test)
radii = np.linspace(0.0, 0.5, 6)
found, proved = [], []
for radius in radii:
    attacked = convexnn.attack(model, X_test, y_test, convexnn.L2Ball(radius), random_state=0)
    found.append(np.mean((model.predict(attacked.X_adv) - y_test) ** 2))
    proved.append(np.mean((errors + radius * certificate.bound) ** 2))

figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
left.fill_between(radii, found, proved, alpha=0.2, label="the worst case lies here")
left.plot(radii, found, label="attack (lower bound)")
left.plot(radii, proved, label="certificate (upper bound)")
left.set(xlabel="radius (l2, standardized inputs)", ylabel="mean squared error on test data", ylim=(0, None))
left.legend()
PatternDisplay.from_network(model.network_, X_train, ax=right)
plt.show()

print(f"At radius {radii[-1]}: {found[-1]:.0f} <= worst mean squared error <= {proved[-1]:.0f}")
