"""
A classifier that is safe on a whole region
===========================================

A classifier of samples says nothing about the points between them. Can a network be *proved* never to accept a point of
a region, and still accept what lies outside?

``SafeRegionClassifier`` trains ``f = g - B(g)`` with a certified upper bound ``B(g)`` of g on the region: every
network on the way is safe, and samples are needed only of what is to be accepted.
"""

# %%
# Two inputs: an ellipse that must be rejected, and samples of both classes around it.
import numpy as np
from sklearn.neural_network import MLPClassifier

from convexnn import L2Ball, SafeRegionClassifier, attack
from convexnn.datasets import load_adversarial_spheres
from convexnn.plotting import DecisionBoundaryDisplay, RegionScoreDisplay, RegionTrainingDisplay
from convexnn.regions import ellipsoid

rng = np.random.default_rng(0)
angle = 0.6
turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
region = ellipsoid([1.0, 0.5], turn * [2.0, 0.8])
X = rng.uniform([-3, -3], [5, 4], (400, 2))
y = np.where(region.contains(X), "reject", "accept")
model = SafeRegionClassifier(region, 12, safe_class="reject", max_iter=400, random_state=0).fit(X, y)
print(f"classes {model.classes_}, right on {model.score(X, y):.1%} of the samples")
print(model.region_certificate_)

# %%
# The second line reads: at every point of the region the score is at most this negative number, by bounds for paired
# units, computed in float64 with all rounding covered. It is close to zero by design, since ``B(g)`` is subtracted
# exactly. The boundary stays outside of the ellipse.
display = DecisionBoundaryDisplay.from_estimator(model, X, y)
around = np.linspace(0, 2 * np.pi, 200)
surface = region.image(np.column_stack([np.cos(around), np.sin(around)]))
_ = display.ax_.plot(*surface.T, color="black", linewidth=1)

# %%
# Ten inputs, Adversarial Spheres: the unit ball is to be rejected, the sphere of radius 1.3 accepted.
spheres = load_adversarial_spheres("D2", d=10, random_state=0)
X, y = spheres.data[spheres.train], spheres.target[spheres.train]
X_test, y_test = spheres.data[spheres.test], spheres.target[spheres.test]
safe = SafeRegionClassifier(L2Ball(1.0), max_iter=400, random_state=0).fit(X, y)
plain = MLPClassifier(30, alpha=0.0, max_iter=500, random_state=0).fit(X, y)

# %%
# The plain network of the same size is nearly as good on samples. A search in the ball around the origin finds a point
# that it accepts; for the safe network there is none, and no search is needed to know.
search = {"steps": 100, "restarts": 20, "random_state": 0}
for name, network in {"plain": plain, "safe": safe}.items():
    found = attack(network, np.zeros((1, 10)), np.zeros(1, dtype=int), L2Ball(1.0), **search)
    inner, outer = (network.score(X_test[y_test == k], y_test[y_test == k]) for k in (0, 1))
    print(f"{name:6s} inner {inner:.4f}  outer {outer:.4f}  accepted in the ball: {bool(found.success[0])}")
print(f"outer accuracy of the start, before training: {safe.start_accuracy_:.3f}")
print(safe.region_certificate_)

# %%
# Scores along random rays from the origin: below zero as long as they are inside.
_ = RegionScoreDisplay.from_estimator(safe, X_test[:300])

# %%
# During training the largest value of g on the ball lies between the best attack and the bound ``B(g)``, which is taken
# away from g; where these meet, the proof costs no accuracy.
_ = RegionTrainingDisplay.from_estimator(safe)

# %%
_ = RegionTrainingDisplay.from_estimator(safe, panel="accuracy")

# %%
# **What was proved.** The safe networks are negative on every point of the region, for the weights as they are stored;
# the certificate is checked again from the weights alone (``convexnn check``). That samples outside are accepted was
# counted, not proved.
