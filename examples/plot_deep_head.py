"""
A robust head for a deep model
==============================

Can the last layers of a deep classifier be replaced by a convexly trained robust head, and what does that buy against
attacks on the *images*?

A PreAct-ResNet-18 of small width is trained on handwritten digits of 8 x 8 pixels, once with plain cross entropy and
once with sharpness-aware minimization (SAM). Then the last layer of the plain model is replaced by a robust ReLU head
and by a globally optimal polynomial head. Their radius is in FEATURE space: what they certify holds for perturbations
of the features, not of the images. So the table attacks the images through the whole network.

The architecture is in ``preact_resnet.py``, which lies beside this script in the folder ``examples`` of the repository.
"""

# %%
import copy
import sys
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

HERE = Path(__file__).resolve().parent if "__file__" in globals() else Path.cwd()
sys.path.insert(0, str(HERE))

from preact_resnet import PreActResNet18

from convexnn import refine

torch.set_num_threads(1)  # the convolutions are small: on a busy machine a second thread costs more than it brings
generator = torch.Generator().manual_seed(0)
images, labels = load_digits(return_X_y=True)
images = (images / 16).reshape(-1, 1, 8, 8).astype(np.float32)
X, X_test, y, y_test = train_test_split(images, labels, test_size=300, stratify=labels, random_state=0)
inputs, targets = torch.from_numpy(X), torch.from_numpy(y)
test, truth = torch.from_numpy(X_test), torch.from_numpy(y_test)
cross_entropy = torch.nn.functional.cross_entropy


# %%
# SAM takes its gradient at the worst point of a small ball around the weights.
def step(model, optimizer, x, y, rho):
    """One step of the optimizer, of SAM where rho is positive."""
    optimizer.zero_grad()
    cross_entropy(model(x), y).backward()
    if rho:
        parameters = [p for p in model.parameters() if p.grad is not None]
        size = torch.sqrt(sum((p.grad**2).sum() for p in parameters)) + 1e-12
        moves = [rho * p.grad / size for p in parameters]
        with torch.no_grad():
            for p, move in zip(parameters, moves, strict=True):
                p.add_(move)
        optimizer.zero_grad()
        cross_entropy(model(x), y).backward()
        with torch.no_grad():
            for p, move in zip(parameters, moves, strict=True):
                p.sub_(move)
    optimizer.step()


def train(rho=0.0, epochs=4):
    """A PreAct-ResNet-18 after a few epochs."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = PreActResNet18(channels=1, width=6)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    for _ in range(epochs):
        for rows in torch.randperm(len(inputs), generator=generator).split(128):
            step(model, optimizer, inputs[rows], targets[rows], rho)
    return model.eval()


plain = train()
models = {"plain": plain, "SAM": train(rho=0.05)}

# %%
# ``refine`` finds the end of the module, gathers the inputs of its head, and trains on them. The radius is chosen
# relative to the features: a tenth of their typical distance from the mean. A head trained with radius 0 tells what
# comes from training a head again, and what from its robustness. The old head is no polynomial network, so it has no
# objective of that kind (``nan``). With ``time_limit`` in the status the last digits depend on the machine.
with torch.no_grad():
    features = copy.deepcopy(plain)
    features.fc = torch.nn.Identity()
    spread = features(inputs).numpy()
radius = 0.1 * float(np.sqrt(((spread - spread.mean(axis=0)) ** 2).sum(axis=1).mean()))
print(f"radius {radius:.3f} in feature space")
settings = {"layers": "last2", "lam": 1e-3, "tol": 1e-2, "time_limit": 9.0}
for head, r in (("polynomial", 0.0), ("relu", radius), ("polynomial", radius)):
    found = refine(plain, X, y, head=head, radius=r, **settings)
    name = f"{head} {'robust' if r else 'radius 0'}"
    models[name] = found.model.eval()
    print(
        f"{name}: objective {found.before:.4f} -> {found.after:.4f} ({found.status}); "
        f"{found.certified:.3f} of the training samples certified in feature space"
    )


# %%
# Attacks on the images, through the whole module, within an l-infinity ball and the pixel range.
def attack(model, x, y, radius, steps):
    """Signed gradient ascent: FGSM with one step, PGD with several."""
    moved = x.clone()
    for _ in range(steps):
        moved.requires_grad_(True)
        (gradient,) = torch.autograd.grad(cross_entropy(model(moved), y, reduction="sum"), moved)
        length = radius if steps == 1 else 2.5 * radius / steps
        moved = moved.detach() + length * gradient.sign()
        moved = torch.minimum(torch.maximum(moved, x - radius), x + radius).clamp(0, 1)
    return moved.detach()


def accuracy(model, x):
    """Share of test images that the model classifies as labelled."""
    with torch.no_grad():
        return float((model(x).argmax(dim=1) == truth).double().mean())


print(f"{'':19} clean  " + "  ".join(f"FGSM {r:.2f}  PGD {r:.2f}" for r in (0.05, 0.1)))
results = {}
for name, model in models.items():
    row = [accuracy(model, test)]
    for r in (0.05, 0.1):
        row += [accuracy(model, attack(model, test, truth, r, steps)) for steps in (1, 20)]
    results[name] = row
    print(f"{name:19} {row[0]:.3f}  " + "  ".join(f"{value:.3f}    " for value in row[1:]))

# %%
# Compare the robust heads with the head of radius 0, not with the plain model: a head trained to the optimum gains by
# itself. What remains is small, and at the larger radius nothing: a head cannot undo what the body does to a small
# change of the image, and a certificate in feature space says nothing about images while the Lipschitz constant of the
# body is unknown. FGSM alone flatters every model; PGD is the number to look at, and itself only an upper bound on the
# robust accuracy.
import matplotlib.pyplot as plt

figure, axes = plt.subplots(figsize=(6, 3), layout="constrained")
for name, row in results.items():
    axes.plot([0, 0.05, 0.1], [row[0], row[2], row[4]], marker="o", label=name)
axes.set(xlabel="radius of the attack on the images (l-infinity)", ylabel="accuracy under PGD", ylim=(0, 1.02))
_ = axes.legend()
