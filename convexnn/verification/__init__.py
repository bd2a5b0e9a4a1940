"""Certification of given networks: methods by name, the cascade, verdicts and reports."""

from convexnn.verification.api import certify
from convexnn.verification.plan import CertifyOptions
from convexnn.verification.registry import Method, get_certifier, methods
from convexnn.verification.report import CertificationReport
from convexnn.verification.verdict import Verdict

__all__ = ["CertificationReport", "CertifyOptions", "Method", "Verdict", "certify", "get_certifier", "methods"]
