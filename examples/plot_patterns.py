"""
Activation patterns
===================

What fixes the convex program, and how much of it survives its solution?

Which hidden units are active on which rows of the data, and the signs of their outer weights, is all that a convex
program takes from a trained network. The solution respects these patterns; many of its units become zero.
"""

# %%
# The patterns of a trained network: a column a unit, blue for units that add, orange for units that subtract.
from sklearn.datasets import load_diabetes
from sklearn.preprocessing import scale

from convexnn import extract, pretrain, solve
from convexnn.plotting import PatternDisplay
from convexnn.restrictions import ReluGroupLasso

X, y = load_diabetes(return_X_y=True)
X, y = scale(X), scale(y)
network = pretrain(X, y, hidden_units=60, random_state=0).network
patterns = extract(network, X)
print(patterns)
_ = PatternDisplay.from_patterns(patterns)

# %%
# Weight decay is a group lasso in the convex program: it selects units.
program = ReluGroupLasso(X, y, patterns, lam=0.03, start=network)
solution = solve(program)
solved = program.decode(solution.z)
sizes = abs(solved.v)
kept = sizes > 1e-3 * sizes.max()
print(f"objective: {program.network_objective(network):.3f} trained, {solution.objective:.3f} solved")
print(f"verified gap: {solution.gap:.1e}; {kept.sum()} of {len(kept)} units are in use")

# %%
# The patterns of the units that are left.
_ = PatternDisplay.from_patterns(patterns.select(kept))
