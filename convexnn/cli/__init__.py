"""The command line: ``convexnn`` and ``python -m convexnn``."""

from convexnn.cli.app import main

__all__ = ["main"]
