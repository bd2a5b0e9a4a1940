"""
A regularization path, certified everywhere
===========================================

How does a fit change with ``lam``, and is anything hidden between the weights that were tried?

``path`` solves one convex program at many weights, each solve starting from the one before. The optimal value is a
concave function of ``lam``, so bounds at finitely many weights bound it everywhere: ``between=`` adds weights until at
*every* ``lam`` of the range one of the networks is proved to be that close to the optimum of the program.
"""

# %%
# One trained network gives the activation patterns; all weights share them.
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_diabetes
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from convexnn import SafeSNNRegressorCV, lipschitz, path, pretrain
from convexnn.plotting import PathDisplay

X, y = load_diabetes(return_X_y=True)
X, X_test, y, y_test = train_test_split(X, y, test_size=0.25, random_state=0)
scaler = StandardScaler().fit(X)
X, X_test = scaler.transform(X), scaler.transform(X_test)
network = pretrain(X, y, hidden_units=20, random_state=0).network

coarse = path(X, y, network, n_lams=6, lam_ratio=1e-5)
fine = path(X, y, network, n_lams=6, lam_ratio=1e-5, between=0.01)
print(fine)
for name, found in (("coarse", coarse), ("fine", fine)):
    print(f"{name}: {len(found)} weights, anywhere between them within {found.gaps_between.max():.2%} of the optimum")

# %%
# The certified interval of the optimal value at every weight. The upper curve is attained by a network of the path, the
# lower one is a theorem; the gap of the coarse path is largest midway between its points.

figure, ax = plt.subplots(figsize=(6.4, 3.4), layout="constrained")
lams = np.geomspace(fine.lams[-1], fine.lams[0], 400)
for found, color, name in ((coarse, "C1", "6 weights"), (fine, "C0", f"{len(fine)} weights")):
    ax.semilogx(lams, [100 * found.gap_at(lam) for lam in lams], color=color, label=name)
ax.set(xlabel="lam", ylabel="certified distance from\nthe optimum, percent")
ax.legend(frameon=False)
ax.spines[["top", "right"]].set_visible(False)
plt.show()

# %%
# Loss, error on data the networks have not seen, and the squared Lipschitz bound.

PathDisplay.from_path(fine, X_test, y_test)
plt.show()

# %%
# ``SafeSNNRegressorCV`` chooses the weight by cross-validation, one path a fold. The largest weight within one standard
# error of the best is often much safer at no loss that the data could show. Every fold trains a start of its own: a
# network that has seen the test rows would bring patterns that know them.

for rule in ("best", "one_standard_error"):
    model = SafeSNNRegressorCV(20, n_lams=20, cv=5, rule=rule, random_state=0).fit(X, y)
    error, bound = np.mean((model.predict(X_test) - y_test) ** 2), lipschitz(model.network_).bound
    print(f"{rule:>20}: lam = {model.lam_:8.3g}, test MSE {error:.0f}, certified Lipschitz bound {bound:.1f}")
