"""Certification of given networks: methods by name, the cascade, verdicts and reports."""

from convexnn.verification.api import certify
from convexnn.verification.certificate_files import load_certificate
from convexnn.verification.certificates import LocalCertificate, certificate_of, save_certificates
from convexnn.verification.plan import CertifyOptions
from convexnn.verification.registry import Method, get_certifier, methods
from convexnn.verification.report import CertificationReport
from convexnn.verification.verdict import Verdict

__all__ = [
    "CertificationReport",
    "CertifyOptions",
    "LocalCertificate",
    "Method",
    "Verdict",
    "certificate_of",
    "certify",
    "get_certifier",
    "load_certificate",
    "methods",
    "save_certificates",
]
