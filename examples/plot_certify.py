"""
Is it robust? A verdict on every sample
=======================================

A ReLU network was trained by somebody, with no thought of robustness. Which of its predictions survive every
perturbation of a given size, and which does a perturbation change?

Every sample is attacked, then bounded. What is certified is proved by a bound that was recomputed from its multipliers;
what is falsified comes with a misclassified point. Nothing is left in between here.
"""

# %%
# A scikit-learn network on 8 x 8 images of digits, pixels from 0 to 1.
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

from convexnn import L2Ball, certify

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X / 16, y, train_size=1200, random_state=0)
model = MLPClassifier((32,), alpha=1e-3, max_iter=60, tol=1e-2, random_state=0).fit(X_train, y_train)
X_test, y_test = X_test[:60], y_test[:60]

# %%
# Sixty test images and one radius. The report says how many are certified, broken or open, and who found it out:
# most are decided by linear bounds (crown) or by one gradient step, the hard ones by the semidefinite bound.
report = certify(model, X_test, y_test, L2Ball(0.3), random_state=0)
print(report)

# %%
# The certified fraction is a lower bound on the robust accuracy, the fraction that no attack broke an upper bound.
# Where they agree, the robust accuracy of the network on these images is known.
radii = np.array([0.05, 0.15, 0.3, 0.45, 0.6])
reports = [certify(model, X_test, y_test, L2Ball(radius), random_state=0) for radius in radii]
for radius, found in zip(radii, reports, strict=True):
    print(f"radius {radius:.2f}: certified {found.certified_accuracy:.2f} <= robust <= {found.robust_accuracy:.2f}")

figure, axes = plt.subplots(1, 2, figsize=(9, 3.4))
axes[0].plot(radii, [found.robust_accuracy for found in reports], "o", mfc="none", label="not broken (upper bound)")
axes[0].plot(radii, [found.certified_accuracy for found in reports], ".-", label="certified (lower bound)")
axes[0].set(xlabel="l2 radius", ylabel="accuracy", ylim=(0, 1))
axes[0].legend(frameon=False)

# %%
# Bounds and attacks of the first thirty images at one radius: the worst margin lies between the two. A method named by
# hand bounds the broken images as well when it is told not to stop at the sign.
from convexnn import CertifyOptions

whole = CertifyOptions(early_stop=False)
for name, marker in (("crown", "v"), ("sdp", ".")):
    bounds = certify(model, X_test[:30], y_test[:30], L2Ball(0.3), method=name, options=whole, random_state=0)
    axes[1].plot(bounds.lower, bounds.margins, marker, label=name, alpha=0.6)
    print(f"{name}: mean distance of bound and attack {np.mean(bounds.margins - bounds.lower):.4f}")
axes[1].axline((0, 0), slope=1, color="0.6", linewidth=0.8)
axes[1].set(xlabel="margin reached by an attack", ylabel="upper bound on the margin")
axes[1].legend(frameon=False)
figure.tight_layout()

# %%
# A broken image and the smallest sign of what broke it.
broken = next(v for v in report.verdicts if v.status == "falsified" and v.clean < 0)
figure, axes = plt.subplots(1, 3, figsize=(6, 2.2))
images = (X_test[broken.index], broken.counterexample, broken.counterexample - X_test[broken.index])
labels = [model.predict(image[None])[0] for image in images[:2]]
for axis, image, title in zip(
    axes, images, (f"read as {labels[0]}", f"read as {labels[1]}", "difference"), strict=True
):
    axis.imshow(image.reshape(8, 8), cmap="gray" if image.min() >= -0.5 and title != "difference" else "RdBu")
    axis.set_title(title, fontsize="small")
    axis.axis("off")
