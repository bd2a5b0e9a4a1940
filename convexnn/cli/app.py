"""From arguments to an exit code: 0 done, 1 refused or failed, 2 not understood, 130 interrupted."""

from __future__ import annotations

import importlib
import os
import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from convexnn.cli.output import Output
from convexnn.cli.parser import build_parser
from convexnn.exceptions import CertificateError, ConvexNNError, InvalidInputError

#: Commands that need torch.
TRAINING = ("demo", "fit")

DONE, REFUSED, USAGE, INTERRUPTED = 0, 1, 2, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments without the program's name; those of the process by default.

    Returns
    -------
    int
        0 when everything was done, 1 when a check refused or a computation failed, 2 when arguments or files
        cannot be used, 130 when interrupted; ``certify`` adds 3 when something stays unknown. Errors are one sentence
        on stderr.
    """
    try:
        arguments = build_parser().parse_args(argv)
    except SystemExit as stop:  # argparse has printed usage, help or version
        return stop.code if isinstance(stop.code, int) else USAGE
    output = Output()
    with warnings.catch_warnings():
        warnings.showwarning = output.warn
        return _guarded(arguments, output)


def _guarded(arguments: Any, output: Output) -> int:
    try:
        module, _, function = arguments.run.partition(":")
        command = getattr(importlib.import_module(f"convexnn.cli.{module}"), function)
        with _one_thread(function in TRAINING):
            code: int = command(arguments, output)
        return code
    except InvalidInputError as error:
        return _fail(output, str(error), USAGE)
    except CertificateError as error:
        return _fail(output, str(error), REFUSED)
    except ConvexNNError as error:
        return _fail(output, str(error), REFUSED)
    except FileNotFoundError as error:
        return _fail(output, f"There is no file {error.filename}.", USAGE)
    except OSError as error:
        return _fail(output, f"{error.filename or 'A file'} cannot be used: {error.strerror or error}.", USAGE)
    except KeyboardInterrupt:
        return _fail(output, "Interrupted.", INTERRUPTED)


def _one_thread(with_torch: bool) -> AbstractContextManager[Any]:
    """One thread per library, unless the environment says otherwise.

    The matrices are small: threads bring little on idle cores and cost a factor of ten on busy ones.
    """
    if "OMP_NUM_THREADS" in os.environ:
        return nullcontext()
    from threadpoolctl import threadpool_limits

    if with_torch:
        import torch  # noqa: F401  (its threads can be limited once they are loaded)
    limits: AbstractContextManager[Any] = threadpool_limits(1)
    return limits


def _fail(output: Output, sentence: str, code: int) -> int:
    output.error(sentence)
    return code
