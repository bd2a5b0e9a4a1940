"""What a report was made with, for who wants to repeat it."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version


def versions_text(*packages: str) -> str:
    """Versions of installed packages and of Python; a package that runs from its source folder has none.

    Parameters
    ----------
    *packages : str
        Names of distributions.

    Returns
    -------
    str
        Such as ``"convexnn 0.1.0, numpy 2.4.6, Python 3.11.7"``.
    """
    return ", ".join([*map(_named, packages), f"Python {platform.python_version()}"])


def _named(package: str) -> str:
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        return f"{package} (not installed)"
