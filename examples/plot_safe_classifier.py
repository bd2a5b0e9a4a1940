"""
A classifier that proves its predictions
========================================

Which training objective gives a ReLU classifier whose predictions can be *proved* to survive perturbations?

Three networks are trained on handwritten digits, from the same kind of start: by weight decay, by convex adversarial
training, and by a loss of certified margins. Then all are judged alike: accuracy on clean images, under attack
(an upper bound on the robust accuracy) and certified (a lower bound).
"""

# %%
# Digits 0 to 3, pixels from 0 to 1. A radius is the l2 norm of a change of the image; two different digits are about
# 3 to 4 apart.
import matplotlib.pyplot as plt
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from convexnn import L2Ball, SafeSNNClassifier
from convexnn.plotting import RadiusDisplay

X, y = load_digits(n_class=4, return_X_y=True)
X, X_test, y, y_test = train_test_split(X / 16, y, train_size=120, test_size=300, stratify=y, random_state=0)

# %%
# ``radius`` is what the two robust objectives train against; weight decay does not look at it. The objective never
# rises after the start; objectives of different regularizers are not comparable.
radius = 0.6
models = {}
for regularizer, name in (("l2", "weight decay"), ("adversarial", "adversarial"), ("margin", "certified margins")):
    model = SafeSNNClassifier(8, regularizer=regularizer, radius=radius, lam=1e-3, tol=1e-3, random_state=0)
    models[name] = model.fit(X, y)
    print(f"{name:18}objective {model.start_objective_:.3f} -> {model.objective_:.3f}")

# %%
# The robust accuracy lies between the two numbers: an attack finds perturbations, a certificate excludes them.
radii = (0.3, 0.6, 0.9)
attacked = {name: [] for name in models}
for name, model in models.items():
    print(f"{name:18}clean {model.score(X_test, y_test):.3f}", end="")
    for r in radii:
        broken = model.attack(X_test, y_test, L2Ball(r), random_state=0).success
        certified = model.certify(X_test, y_test, L2Ball(r)).certified
        assert not (broken & certified).any()  # what is proved cannot be broken
        attacked[name].append(1 - broken.mean())
        print(f"   radius {r}: certified {certified.mean():.3f} <= robust <= {attacked[name][-1]:.3f}", end="")
    print()

# %%
# Curves are certified, circles are under attack; each model's robust accuracy lies in between.
display = RadiusDisplay.from_estimators(models, X_test, y_test)
for line, values in zip(display.lines_, attacked.values(), strict=True):
    display.ax_.plot(radii, values, "o", color=line.get_color(), markerfacecolor="none", markersize=5)
display.ax_.plot([], [], "o", color="0.35", markerfacecolor="none", markersize=5, label="under attack (PGD)")
display.ax_.axvline(radius, color="0.6", linewidth=0.8, linestyle=":")
display.ax_.set_ylabel("accuracy on test images")
_ = display.ax_.legend(frameon=False, fontsize="small", title="certified")

# %%
# The test images whose predictions are proved the farthest, and the first ones to fall, by the margin-trained network.
model = models["certified margins"]
proved = model.certified_radius(X_test, y_test)
order = proved.argsort()
figure, panels = plt.subplots(2, 6, figsize=(7, 2.9), layout="constrained")
for panel, k in zip(panels.flat, [*order[::-1][:6], *order[:6]], strict=True):
    panel.imshow(X_test[k].reshape(8, 8), cmap="gray_r")
    panel.set_title(f"{model.predict(X_test[k : k + 1])[0]}, radius {proved[k]:.2f}", fontsize="small")
    panel.set(xticks=[], yticks=[])
