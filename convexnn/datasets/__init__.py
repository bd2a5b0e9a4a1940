"""Data sets: ``make_*`` draws synthetic data, ``load_*`` reads what scikit-learn bundles."""

from convexnn.datasets.bundled import load_diabetes
from convexnn.datasets.synthetic import make_adversarial_spheres, make_rastrigin

__all__ = ["load_diabetes", "make_adversarial_spheres", "make_rastrigin"]
