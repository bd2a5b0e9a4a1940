"""The command line: ``convexnn`` and ``python -m convexnn``."""

from __future__ import annotations

from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; see :func:`convexnn.cli.app.main`.

    Everything is imported here, so that Ctrl-C ends quietly from the first moment on.
    """
    try:
        from convexnn.cli.app import main as run

        return run(argv)
    except KeyboardInterrupt:
        return 130


__all__ = ["main"]
