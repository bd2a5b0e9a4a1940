"""Files that live beside the repository: data sets and networks too large or not ours to ship."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def shared_path(*parts: str) -> Path | None:
    """Path of a shared file, or None where it is absent.

    Looked for in the folder named by ``CONVEXNN_SHARED``, then in ``shared`` beside the repository.
    """
    named = os.environ.get("CONVEXNN_SHARED")
    folders = ([Path(named)] if named else []) + [ROOT.parent / "shared"]
    found = (folder.joinpath(*parts) for folder in folders)
    return next((path for path in found if path.exists()), None)


def require_shared(*parts: str) -> Path:
    """Path of a shared file; the test is skipped, with the reason, where it is absent."""
    path = shared_path(*parts)
    if path is None:
        pytest.skip(f"needs {'/'.join(parts)} in ../shared or in the folder named by CONVEXNN_SHARED")
    return path
