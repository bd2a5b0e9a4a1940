"""Pretraining and baselines in torch; one more trainer is one file and one line in ``registry.py``."""

from convexnn.training.admm import ADMMTrainer
from convexnn.training.adversarial import AdversarialTrainer
from convexnn.training.base import Trainer, TrainingResult
from convexnn.training.certified_margin import MarginOptions, MarginTraining, train_certified_margin
from convexnn.training.gradient import AdamTrainer, SGDTrainer
from convexnn.training.lipschitz_gradient import LipschitzTrainer
from convexnn.training.max_gradient import CertifiedOptions, CertifiedTraining, train_certified
from convexnn.training.max_gradient_penalty import MaxGradientTrainer
from convexnn.training.options import Progress, TrainingOptions
from convexnn.training.polynomial import PolynomialTraining, train_polynomial
from convexnn.training.polynomial_threshold import Threshold, polynomial_lam_max
from convexnn.training.pretraining import pretrain
from convexnn.training.region_admm import train_region_admm
from convexnn.training.region_admm_options import RegionADMMOptions
from convexnn.training.region_facets import FacetOptions, train_region_facets
from convexnn.training.region_options import RegionOptions, RegionTraining
from convexnn.training.region_safe import train_safe_region
from convexnn.training.registry import TRAINERS, get_trainer
from convexnn.training.robust_relu import RobustReluOptions, RobustTraining, train_robust_relu
from convexnn.training.sharpness_aware import SAMTrainer
from convexnn.training.vector_alternating import VectorAlternation, alternate_vector

__all__ = [
    "TRAINERS",
    "ADMMTrainer",
    "AdamTrainer",
    "AdversarialTrainer",
    "CertifiedOptions",
    "CertifiedTraining",
    "FacetOptions",
    "LipschitzTrainer",
    "MarginOptions",
    "MarginTraining",
    "MaxGradientTrainer",
    "PolynomialTraining",
    "Progress",
    "RegionADMMOptions",
    "RegionOptions",
    "RegionTraining",
    "RobustReluOptions",
    "RobustTraining",
    "SAMTrainer",
    "SGDTrainer",
    "Threshold",
    "Trainer",
    "TrainingOptions",
    "TrainingResult",
    "VectorAlternation",
    "alternate_vector",
    "get_trainer",
    "polynomial_lam_max",
    "pretrain",
    "train_certified",
    "train_certified_margin",
    "train_polynomial",
    "train_region_facets",
    "train_region_admm",
    "train_robust_relu",
    "train_safe_region",
]
