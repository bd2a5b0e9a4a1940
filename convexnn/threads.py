"""One BLAS thread while the arrays are small: waiting for a second one costs more than it brings.

On a busy machine the waiting is not small: interior point iterations on matrices of a few hundred rows were measured
sixty times slower with two threads than with one. The limit is scoped, and only the main thread sets it: concurrent
callers cannot leave it behind.
"""

from __future__ import annotations

import sys
import threading
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any


@cache
def _controller(torch_is_there: bool) -> Any:
    """All thread pools of the process; one that came with torch is not seen by a controller made before."""
    del torch_is_there
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def one_thread(small: bool = True) -> AbstractContextManager[Any]:
    """Context in which BLAS and OpenMP use one thread when the work is ``small``; else one that does nothing.

    What was set before is restored at the end. Outside of the main thread nothing is changed.
    """
    if not small or threading.current_thread() is not threading.main_thread():
        return nullcontext()
    limit: AbstractContextManager[Any] = _controller("torch" in sys.modules).limit(limits=1)
    return limit
