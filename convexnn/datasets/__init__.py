"""Data sets: ``make_*`` draws synthetic data, ``load_*`` reads what is at hand, ``fetch_*`` downloads and keeps."""

from convexnn.datasets.bundled import load_diabetes
from convexnn.datasets.cache import get_data_home
from convexnn.datasets.cifar import fetch_cifar10
from convexnn.datasets.spheres import load_adversarial_spheres
from convexnn.datasets.splits import load_split
from convexnn.datasets.synthetic import make_adversarial_spheres, make_rastrigin
from convexnn.datasets.uci import fetch_machine, fetch_servo, fetch_solar_flare, fetch_wine_quality

__all__ = [
    "fetch_cifar10",
    "fetch_machine",
    "fetch_servo",
    "fetch_solar_flare",
    "fetch_wine_quality",
    "get_data_home",
    "load_adversarial_spheres",
    "load_diabetes",
    "load_split",
    "make_adversarial_spheres",
    "make_rastrigin",
]
