"""
Better patterns after the convex step
=====================================

A convex training program is optimal for its activation patterns. How much is left in the patterns?

Ten units, a Lipschitz penalty: exact-gradient training, the joint convex program of its patterns, and the search that
adds, flips and replaces units from there. Every step is solved to a verified gap and none is worse than the last.
"""

# %%
# A start, and the convex program of its patterns.
import matplotlib.pyplot as plt
import numpy as np

from convexnn import pattern_search, pretrain
from convexnn.training import LipschitzTrainer

rng = np.random.default_rng(0)
X = rng.uniform(-2, 2, (60, 2))
y = np.sin(2 * X[:, 0]) * np.cos(X[:, 1]) + 0.1 * rng.standard_normal(60)
start = pretrain(X, y, hidden_units=10, method=LipschitzTrainer(lam=1e-3), epochs=300, random_state=0).network

# %%
# The search. ``solve`` is the convex program of the start's own patterns.
found = pattern_search(start, X, y, lam=1e-3, rounds=3, random_state=0)
for step in found.history:
    mark = "accepted" if step.accepted else ""
    print(f"{step.round:2d} {step.move:8s} tried {step.tried:.5f}  best {step.objective:.5f}  {mark}")
solved = next(step.objective for step in found.history if step.move == "solve")
print(f"{100 * (1 - solved / found.start_objective):.1f} % by the convex step,")
print(f"{100 * (1 - found.objective / solved):.1f} % more by better patterns; verified gap {found.solution.gap:.0e}")

# %%
# The objective over the steps; it never rises.
fig, ax = plt.subplots()
ax.step(range(len(found.history)), [step.objective for step in found.history], where="post")
ax.axhline(solved, linestyle=":", color="gray", label="joint program of the start's patterns")
ax.set(xlabel="step", ylabel="training objective")
_ = ax.legend()
