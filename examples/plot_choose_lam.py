"""
Choosing lam
============

Which weight on the Lipschitz bound should a regressor get, and what does a larger one cost and buy?

``lam_max`` is where a path starts: there no network whatsoever improves on the best constant by more than one percent.
From it down, one trained network is refined at every ``lam``, a held-out set judges, and the certified bound tells how
far an output can move when its input is perturbed. The data are scikit-learn's diabetes measurements.
"""

# %%
# Features are standardized with the training rows, so Lipschitz constants and radii are per standard deviation. The
# validation set chooses, the test set is looked at once, at the end.
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_diabetes
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from convexnn import L2Ball, SafeSNNRegressor, lam_max, pretrain
from convexnn.plotting import IntervalDisplay

X, y = load_diabetes(return_X_y=True)
X, X_test, y, y_test = train_test_split(X, y, test_size=0.25, random_state=0)
X, X_held, y, y_held = train_test_split(X, y, test_size=0.25, random_state=0)
scaler = StandardScaler().fit(X)
X, X_held, X_test = scaler.transform(X), scaler.transform(X_held), scaler.transform(X_test)

# %%
# The path. Every fit starts from the same trained network, hence solves the program of the same patterns; its gap says
# how far from the optimum of that program it can be.

start = pretrain(X, y, hidden_units=20, random_state=0).network
path = [SafeSNNRegressor(lam=lam, start=start).fit(X, y) for lam in lam_max(X, y) * np.geomspace(1, 1e-5, 16)]

errors = np.array([(model.predict(X_held) - y_held) ** 2 for model in path])
held_out, deviation = errors.mean(axis=1), errors.std(axis=1) / np.sqrt(len(y_held))
print("     lam  objective      gap  held-out MSE  certified L")
for model, error in zip(path, held_out, strict=True):
    numbers = f"{model.lam:8.3g}  {model.objective_:9.1f}  {model.solution_.gap:7.0e}  {error:12.0f}"
    print(f"{numbers}  {model.lipschitz_.bound:11.2f}")

# %%
# The error is flat near its minimum, the bound is not: of all ``lam`` within one standard error of the best, take the
# largest.

best = int(held_out.argmin())
chosen = int(np.flatnonzero(held_out <= held_out[best] + deviation[best])[0])
lams, bounds = [model.lam for model in path], [model.lipschitz_.bound for model in path]

figure, (top, bottom) = plt.subplots(2, 1, figsize=(6.4, 5), sharex=True, layout="constrained")
top.fill_between(lams, held_out - deviation, held_out + deviation, color="C0", alpha=0.2, linewidth=0)
top.semilogx(lams, held_out, color="C0", marker="o", markersize=4)
top.axhline(np.mean((y.mean() - y_held) ** 2), color="gray", linestyle=":")
top.annotate("best constant", (lams[-1], np.mean((y.mean() - y_held) ** 2)), xytext=(0, 4), textcoords="offset points")
top.set(ylabel="held-out MSE\n± standard error", ylim=(0, None))
bottom.loglog(lams, bounds, color="C0", marker="o", markersize=4)
bottom.set(xlabel="lam", ylabel="certified Lipschitz bound")
for ax in (top, bottom):
    ax.axvline(lams[best], color="C7", linewidth=1, label="least held-out error")
    ax.axvline(lams[chosen], color="C1", linewidth=1.6, label="largest within one standard error")
    ax.spines[["top", "right"]].set_visible(False)
bottom.legend(frameon=False)
plt.show()

# %%
# What the bound buys: on every test sample, an interval that no perturbation of the input leaves. An attack shows how
# much of it is really reached. Dots are the targets; the intervals promise nothing about these.

threat = L2Ball(0.25)
figure, axes = plt.subplots(1, 2, figsize=(11, 4.4), sharey=True, layout="constrained")
for ax, index, name in zip(axes, (best, chosen), ("least held-out error", "one standard error"), strict=True):
    IntervalDisplay.from_estimator(path[index], X_test, threat, y=y_test, ax=ax)
    ax.set_title(f"{name}: lam = {path[index].lam:.2g}", pad=38)
axes[0].set_ylabel("disease progression")
axes[1].set_ylabel("")
plt.show()

# %%
# The same along one feature, the body mass index, from the average patient.

display = IntervalDisplay.from_ray(path[chosen], np.zeros(10), 2, threat)
display.ax_.set(xlabel="body mass index, standard deviations from the mean", ylabel="disease progression")
plt.show()

# %%
for index, name in ((best, "least held-out error"), (chosen, "one standard error")):
    model = path[index]
    low, high = model.certified_interval(X_test, threat)
    error = np.mean((model.predict(X_test) - y_test) ** 2)
    certified = model.certify(X_test, y_test, threat).certified_mse
    print(f"{name:>20}: lam = {model.lam:.2g}, test MSE {error:.0f}, width {np.mean(high - low):.0f},", end=" ")
    print(f"MSE under any perturbation of radius 0.25 <= {certified:.0f}")
