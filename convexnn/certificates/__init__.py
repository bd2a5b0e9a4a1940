"""Certificates: one theorem per file, each a heavy proposal and a small check."""
