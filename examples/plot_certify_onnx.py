"""
Somebody else's network: certify an ONNX file
=============================================

You were given ``model.onnx`` and some test images, not the code that trained it. How far can you trust its answers when
the images are perturbed, and what can you hand to others so that they need not trust *you*?

The file is read, every answer is attacked and bounded, one requirement is put into the language of verification tools,
and the proofs are written to files that anybody can check. Reading ONNX needs the extra ``onnx``:
``pip install ".[onnx]"`` in the clone.
"""

# %%
# The stranger: here a scikit-learn network on 8 x 8 images of digits, which is all you need to know about this step.
import tempfile
from pathlib import Path

from sklearn.datasets import load_digits
from sklearn.neural_network import MLPClassifier

from convexnn import L2Ball, LInfBall, Network, certify, verify_property
from convexnn.exchange import Property, write_vnnlib
from convexnn.plotting import TightnessDisplay
from convexnn.verification import load_certificate, save_certificates

folder = Path(tempfile.mkdtemp())
X, y = load_digits(return_X_y=True)
X = X / 16
stranger = MLPClassifier((24, 24), alpha=1e-2, max_iter=60, tol=1e-2, random_state=0).fit(X[:1200], y[:1200])
Network.from_sklearn(stranger).to_onnx(folder / "model.onnx", dtype="float64")
X, y = X[1200:1230], y[1200:1230]

# %%
# From here on there is only the file. What cannot be read is refused by the name of the node; what is read computes
# the same function, so a first check is the accuracy that you were promised.
network = Network.from_onnx(folder / "model.onnx")
print(network)
print(f"accuracy on {len(X)} images: {(network(X).argmax(axis=1) == y).mean():.3f}")

# %%
# Every answer gets a verdict: *certified*, no perturbation of this size changes it; *falsified*, here is one that does;
# or *unknown*, with a reason. ``keep_evidence`` keeps the multipliers that prove the bounds.
report = certify(network, X, y, L2Ball(0.2, clip=(0, 1)), keep_evidence=True, random_state=0)
print(report)

# %%
# The whole report is one HTML page that loads nothing from elsewhere, for those who do not run Python.
page = report.to_html(folder / "report.html", title="model.onnx under l2 perturbations of 0.2")
print(f"{page.name}: {page.stat().st_size // 1024} KiB")

# %%
# How good are the bounds? Cheap linear bounds and a semidefinite relaxation against the best attack: nothing is farther
# from the truth than the distance shown.
from convexnn import CertifyOptions

whole = CertifyOptions(early_stop=False)
reports = {
    name: certify(network, X[:10], y[:10], L2Ball(0.2, clip=(0, 1)), method=name, options=whole, random_state=0)
    for name in ("crown", "sdp")
}
display = TightnessDisplay.from_reports(reports, name="model.onnx")

# %%
# One requirement in VNN-LIB, the format of the verification competition: image 0 keeps its class when each pixel moves
# by at most 0.02. Other tools read the same file; ``convexnn certify --model model.onnx --property requirement.vnnlib``
# is the same question on the command line.
requirement = Property.of_classification(X[0], int(y[0]), 0.02, n_outputs=10, clip=(0, 1))
write_vnnlib(folder / "requirement.vnnlib", requirement)
print(f"requirement: {verify_property(network, requirement, time_limit=20).status}")

# %%
# Proofs that leave the house: one small file for each certified image. Whoever has the model checks them without
# solver, data or trust: ``convexnn check proofs model.onnx``.
proofs = report.certificates(network, X, y)
save_certificates(proofs, folder / "proofs")
first = sorted((folder / "proofs").iterdir())[0]
print(f"{len(proofs)} proofs; {first.name} checked again: {load_certificate(first).check(network).max():.4f} < 0")

# %%
# **What was proved.** For every certified image: no image within the ball, inside the range of the pixels, is given
# another class by the real-valued network of the stored weights, nor by its evaluation in float64. Nothing was proved
# about other images, or about a runtime that computes in single precision. Perturbations of another shape are another
# question, of the same form:
print(certify(network, X[:10], y[:10], LInfBall(0.03, clip=(0, 1)), random_state=0))
