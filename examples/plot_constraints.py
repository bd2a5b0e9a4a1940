"""
A dose-response curve that is guaranteed to rise
================================================

More of a dose never lowers the response, no dose gives no response, and the response cannot exceed one: this is known
before any data is seen. A network that is fitted to few noisy samples does not know it. Which of it can be guaranteed,
and what does the guarantee cost?
"""

# %%
# Noisy responses at thirty doses.
import matplotlib.pyplot as plt
import numpy as np

from convexnn import Box, FixedValue, Monotone, SafeSNNRegressor, UpperBound, guarantees

rng = np.random.default_rng(0)
dose = np.sort(rng.uniform(0, 4, 30))
response = dose**2 / (1 + dose**2) + 0.12 * rng.standard_normal(30)
X = dose[:, None]

# %%
# Without knowledge, then with it. ``constraints`` hold for all doses (the upper bound on the named range), and every
# line that is printed was recomputed from the weights of the network in rational arithmetic.
common = {"regularizer": "l2", "lam": 1e-4, "start": "random", "random_state": 0}
free = SafeSNNRegressor(8, **common).fit(X, response)
rising = SafeSNNRegressor(8, **common, monotonic_cst=[1]).fit(X, response)
known = (FixedValue([0.0], 0.0), UpperBound(Box(0.0, 6.0), 1.0))
all_known = SafeSNNRegressor(8, **common, monotonic_cst=[1], constraints=known).fit(X, response)
print(all_known.guarantees_)

# %%
# The free curve falls in places and misses zero; the others cannot.
grid = np.linspace(0, 6, 400)[:, None]
fig, ax = plt.subplots(figsize=(6.4, 3.8), layout="constrained")
ax.plot(grid, grid**2 / (1 + grid**2), color="0.6", linestyle=":", label="truth")
ax.plot(dose, response, "k.", markersize=4)
for model, label in ((free, "free"), (rising, "rising"), (all_known, "rising, f(0) = 0, f <= 1")):
    ax.plot(grid, model.predict(grid), label=label)
ax.set(xlabel="dose", ylabel="response")
_ = ax.legend(frameon=False)

# %%
# What it costs: the best network on these cells that keeps the constraints has an objective between the two numbers of
# the middle; the price of the constraints is bracketed in the same way.
result = all_known.constrained_
low, high = result.price
print(f"free {result.free_objective:.5f}; constrained between {result.lower_bound:.5f} and {result.objective:.5f}")
print(f"price of the constraints between {low:.5f} and {high:.5f}")

# %%
# A false claim does not pass: the free network is checked for the same properties.
for line in guarantees(free, [Monotone(0), *known]):
    print(line)
