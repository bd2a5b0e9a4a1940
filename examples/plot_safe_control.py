"""
A robot that is proved never to step into an obstacle
=====================================================

A policy was learned somewhere and nothing is known about it. Can a small network stand between it and the robot, so
that no step ends in the obstacle, *whatever* the policy asks for, and still let nearly every harmless step pass?

The network f judges where a step leads: only steps to points with ``f > 0`` are made. ``train_safe_region`` proves that
f is negative on every point of the obstacle, enlarged by the error of the motion. That is a theorem about the weights
as they are stored; a classifier of samples, which stands beside it, has none.
"""

# %%
# A rotated ellipse in the way. The robot moves by ``u + w``, ``|u| <= 0.3``, with an unknown error ``|w| <= 0.05``.
# An ellipse E grown by the factor ``1 + 0.05 / (shortest half axis)`` contains E and every error around it.
import matplotlib.pyplot as plt
import numpy as np
from sklearn.neural_network import MLPClassifier

from convexnn.regions import ellipsoid
from convexnn.training import train_safe_region

STEP, ERROR = 0.3, 0.05
rng = np.random.default_rng(0)


angle, lengths = 0.5, np.array([1.4, 0.6])
turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
obstacle = ellipsoid([0.0, 0.2], turn * lengths)
unsafe = ellipsoid([0.0, 0.2], turn * lengths * (1 + ERROR / lengths.min()))

# %%
# Samples: points that are free are to be accepted. Points of the enlarged obstacle need no samples.
X = rng.uniform(-3, 3, (2000, 2))
free = ~unsafe.contains(X)
training = train_safe_region(unsafe, X[free], hidden_units=24, steps=200, random_state=0)
print(f"largest value on the obstacle: at most {training.bound:.2e} (proved), found {training.lower:.2e}")
print(f"harmless points accepted: {training.accuracy:.3f} (start: {training.start_accuracy:.3f})")
plain = MLPClassifier(32, alpha=0.0, learning_rate_init=1e-2, max_iter=200, tol=1e-3, random_state=0).fit(X, free)
print(f"classifier without proof: {plain.predict(X)[free].mean():.3f} accepted, "
      f"{plain.predict(X)[~free].mean():.3f} of the unsafe ones too")  # fmt: skip

# %%
# The filter: of the step that the policy asks for and of turned and shortened ones, the nearest that is allowed. When
# none is, the brake holds the robot where it is.
angles = np.linspace(-np.pi, np.pi, 25)
turns = np.array([[[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]] for a in angles])


def filtered(allowed, position, step):
    """The allowed step nearest to the one asked for, or None."""
    choices = np.vstack([share * turns @ step for share in (1.0, 0.6, 0.3)])
    choices = choices[allowed(position + choices)]
    return None if len(choices) == 0 else choices[np.argmin(np.linalg.norm(choices - step, axis=1))]


def driven(allowed, start, goal, steps=40):
    """A trajectory under a policy that drives straight to its goal and knows nothing of obstacles."""
    path = [start]
    for _ in range(steps):
        asked = goal - path[-1]
        asked = asked * min(1.0, STEP / max(np.linalg.norm(asked), 1e-9))
        step = filtered(allowed, path[-1], asked)
        error = rng.standard_normal(2)
        error *= ERROR * rng.random() / np.linalg.norm(error)
        path.append(path[-1] if step is None else path[-1] + step + error)
    return np.array(path)


# %%
# Forty missions with each filter and with none.
starts, goals = rng.uniform([-2.8, -2.8], [-2.2, 2.8], (40, 2)), rng.uniform([2.2, -2.8], [2.8, 2.8], (40, 2))
filters = {
    "none": lambda Q: np.ones(len(Q), dtype=bool),
    "classifier": lambda Q: plain.predict(Q).astype(bool),
    "proved": lambda Q: training.network(Q) > 0,
}
paths = {name: [driven(f, *ends) for ends in zip(starts, goals, strict=True)] for name, f in filters.items()}
for name, driven_paths in paths.items():
    points = np.vstack(driven_paths)
    inside = obstacle.contains(points, tol=0.0).sum()
    close = np.mean([np.linalg.norm(path[-1] - goal) < 0.4 for path, goal in zip(driven_paths, goals, strict=True)])
    print(f"filter {name:10s}: {inside:3d} steps inside the obstacle, {close:.0%} of the missions reach the goal")

# %%
# Shaded: what the proved filter accepts. The boundary of the accepted set stays outside of the enlarged obstacle
# (dashed), everywhere and not only where there are samples.
grid = np.stack(np.meshgrid(np.linspace(-3, 3, 200), np.linspace(-3, 3, 200)), axis=-1)
figure, axes = plt.subplots(1, 2, figsize=(9, 4.4), sharey=True)
circle = np.column_stack([np.cos(np.linspace(0, 2 * np.pi, 200)), np.sin(np.linspace(0, 2 * np.pi, 200))])
for axis, name in zip(axes, ("classifier", "proved"), strict=True):
    accepted = filters[name](grid.reshape(-1, 2)).reshape(200, 200)
    axis.contourf(grid[..., 0], grid[..., 1], accepted, levels=[0.5, 1.5], colors=["#cfe8cf"])
    for path in paths[name][:25]:
        axis.plot(*path.T, color="0.3", linewidth=0.6)
    axis.fill(*obstacle.image(circle).T, color="#c44e52", alpha=0.6)
    axis.plot(*unsafe.image(circle).T, "k--", linewidth=0.8)
    axis.set(title=f"filter: {name}", xlim=(-3, 3), ylim=(-3, 3), aspect="equal")
figure.tight_layout()
