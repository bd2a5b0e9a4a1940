"""
Refine a torch module
=====================

You have a trained torch module. Can it be made better without training it again?

The activation patterns of the module define a convex program that contains the module itself, so the program's
optimum is at least as good. ``refine`` returns a module of the same type, and the evidence.
"""

# %%
# An ordinary torch module, trained the ordinary way.
import torch
from sklearn.datasets import load_diabetes
from sklearn.preprocessing import scale

from convexnn import lipschitz, refine
from convexnn.plotting import ObjectiveDisplay

X, y = load_diabetes(return_X_y=True)
X, y = scale(X), scale(y)
generator = torch.Generator().manual_seed(0)
module = torch.nn.Sequential(torch.nn.Linear(10, 40), torch.nn.ReLU(), torch.nn.Linear(40, 1)).double()
for parameter in module.parameters():
    torch.nn.init.normal_(parameter, std=0.3, generator=generator)
inputs, targets = torch.from_numpy(X), torch.from_numpy(y)[:, None]
optimizer = torch.optim.Adam(module.parameters(), lr=0.01)
for _ in range(300):
    optimizer.zero_grad()
    torch.nn.functional.mse_loss(module(inputs), targets).backward()
    optimizer.step()

# %%
# The objective is the mean squared error plus ``lam`` times the square of the certified Lipschitz bound.
refinement = refine(module, X, y, lam=0.1)
print(f"a {type(refinement.model).__name__} came back, {refinement.status}")
print(f"objective: {refinement.before:.4f} before, {refinement.after:.4f} after")
print(f"verified gap of the program with these patterns: {refinement.solution.gap:.1e}")
print(f"Lipschitz bound: {lipschitz(module).bound:.3f} before, {refinement.certificate.bound:.3f} after")

# %%
# The certificate holds the multiplier that proves its bound; checking it takes no trust in any solver.
print(f"checked again: {refinement.certificate.check(refinement.network):.3f}")

# %%
# The dashed line is a lower bound on the optimum of the program: with these patterns there is nothing left to gain.
_ = ObjectiveDisplay.from_history(refinement.history, refinement.solution.lower_bound)

# %%
# **What was proved.** The module that came back is not worse than yours, by the objective that both are judged by; it
# is the best one with your module's activation patterns, up to the gap; its Lipschitz constant is at most the bound.
# That the test error falls was not proved: hold out data for that.
