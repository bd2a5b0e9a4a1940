"""Certification of given networks: methods by name, the cascade, verdicts and reports."""
