"""A Ctrl-C at a chosen place: the k-th call of a function in given files raises KeyboardInterrupt."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import convexnn

ROOT = Path(convexnn.__file__).parent


@contextmanager
def _watching(folders: tuple[str, ...], react: Callable[[], None]) -> Iterator[None]:
    """Call ``react`` at every call of a function whose file lies in one of the folders of the package."""
    prefixes = tuple(str(ROOT / folder) for folder in folders)

    def tracer(frame: FrameType, event: str, arg: Any) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(prefixes):
            react()

    before = sys.gettrace()
    sys.settrace(tracer)
    try:
        yield
    finally:
        sys.settrace(before)


def count_calls(work: Callable[[], Any], *folders: str) -> int:
    """How many calls ``work`` makes in the folders."""
    calls = [0]

    def react() -> None:
        calls[0] += 1

    with _watching(folders, react):
        work()
    return calls[0]


def interrupted_at(k: int, work: Callable[[], Any], *folders: str) -> Any:
    """Result of ``work`` when call number ``k`` (from 0) in the folders raises KeyboardInterrupt, once.

    AssertionError when the interrupt comes out of ``work``.
    """
    calls = [0]

    def react() -> None:
        calls[0] += 1
        if calls[0] == k + 1:
            raise KeyboardInterrupt

    with _watching(folders, react):
        try:
            return work()
        except KeyboardInterrupt as error:
            raise AssertionError(f"the interrupt at call {k} was not dealt with") from error
