"""
How wrong can a classifier be made?
===================================

A classifier of handwritten digits that is right on nearly all images may be wrong on most of them when every pixel may
change a little. How much of that is certain, and what does training against it buy? Two networks of the same size are
compared: scikit-learn's, and the same network after training with certified bounds of its margins as a penalty.
"""

# %%
# Digits 0 to 4, pixels from 0 to 1. A radius is the largest change of a pixel.
import tempfile
from pathlib import Path

from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

from convexnn.plotting import RobustErrorDisplay, TightnessDisplay
from convexnn.report import robust_error_report
from convexnn.training import CertifiedOptions, TrainingOptions, train_certified

X, y = load_digits(n_class=5, return_X_y=True)
X, X_test, y, y_test = train_test_split(X / 16, y, train_size=700, stratify=y, random_state=0)
plain = MLPClassifier(hidden_layer_sizes=16, max_iter=1000, random_state=0).fit(X, y)

# %%
# Certified training: the loss, plus a weight times an upper bound on how steep every difference of two outputs is. All
# values in the history are certified for the weights of their epoch: no perturbation of the radius changes more
# predictions.
training = TrainingOptions(epochs=300, evaluate_every=50)
options = CertifiedOptions(radius=0.1, lam=3e-3, loss="multi_margin", random_state=0, training=training)
trained = train_certified(plain, X, y, options)
for row in trained.history:
    print(
        f"epoch {row['epoch']:4.0f}  loss {row['loss']:.3f}  largest bound {row['largest_bound']:6.2f}  "
        f"clean error {row['clean_error']:.3f}  certified error {row['certified_error']:.3f}"
    )

# %%
# Attack and certify 15 test images at two radii. The robust error, the share of images that the worst perturbations
# make wrong, lies between what an attack reaches and what a method cannot certify.
models = {"MLPClassifier": plain, "certified training": trained.network}
report = robust_error_report(models, X_test[:15], y_test[:15], [0.05, 0.1], clip=(0, 1), methods=("crown", "sdp"))
print(report)

# %%
_ = RobustErrorDisplay.from_report(report, name="MLPClassifier")

# %%
_ = RobustErrorDisplay.from_report(report, name="certified training")

# %%
# How far every bound is from the best attack: the semidefinite relaxation leaves almost nothing open.
_ = TightnessDisplay.from_report(report, name="certified training", radius=0.1)

# %%
# All of this on one page that needs nothing else: figures, tables, the meaning of the words.
page = report.to_html(Path(tempfile.mkdtemp()) / "robust_error.html", title="Digits: robust error")
print(f"{page.name}: {page.stat().st_size // 1024} KiB")
