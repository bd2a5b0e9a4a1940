"""From arguments to an exit code; :mod:`convexnn.cli.codes` says what each means."""

from __future__ import annotations

import importlib
import os
import sys
import time
import warnings
from argparse import Namespace
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from convexnn.cli.codes import BROKEN_PIPE, INTERRUPTED, REFUSED, USAGE
from convexnn.cli.output import Output
from convexnn.cli.parser import UsageError, build_parser, version_text
from convexnn.exceptions import ConvexNNError, InvalidInputError

#: Commands that need torch.
TRAINING = ("demo", "fit", "path", "safe")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments without the program's name; those of the process by default.

    Returns
    -------
    int
        0 when everything was done or proved, 1 when something is falsified, a check refused or a computation failed,
        2 when arguments or files cannot be used, 3 when something stays unknown, 130 when interrupted, 141 when the
        reader of the output has gone. Errors are one sentence on stderr; with ``--json`` they are in the object, too.
    """
    began = time.monotonic()
    given = list(sys.argv[1:] if argv is None else argv)
    try:
        code, output = _run(given)
        if output.json:
            output.write(output.record.text(version_text(), code, time.monotonic() - began))
        _flush()
    except BrokenPipeError:
        _forget_stdout()
        return BROKEN_PIPE
    return code


def _run(given: list[str]) -> tuple[int, Output]:
    """Exit code of the arguments and what was said."""
    try:
        arguments = build_parser().parse_args(given)
    except UsageError as error:  # argparse has printed it
        output = Output(Namespace(json="--json" in given, command=error.command))
        output.record.error = str(error)
        return USAGE, output
    except SystemExit as stop:  # argparse has printed help or version
        return (stop.code if isinstance(stop.code, int) else USAGE), Output()
    output = Output(arguments)
    with warnings.catch_warnings():
        warnings.showwarning = output.warn
        return _guarded(arguments, output), output


def _guarded(arguments: Any, output: Output) -> int:
    try:
        module, _, function = arguments.run.partition(":")
        command = getattr(importlib.import_module(f"convexnn.cli.{module}"), function)
        with _one_thread(arguments.command in TRAINING):
            code: int = command(arguments, output)
        return code
    except BrokenPipeError:
        raise
    except InvalidInputError as error:
        return _fail(output, str(error), USAGE)
    except ConvexNNError as error:
        return _fail(output, str(error), REFUSED)
    except FileNotFoundError as error:
        return _fail(output, f"There is no file {error.filename}.", USAGE)
    except OSError as error:
        return _fail(output, f"{error.filename or 'A file'} cannot be used: {error.strerror or error}.", USAGE)
    except ImportError as error:
        return _fail(output, f"{error}. The package that it belongs to is not installed.", REFUSED)
    except MemoryError as error:
        return _fail(output, f"The memory of this machine is too small: {error}", REFUSED)
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


def _flush() -> None:
    """Find out now, not while Python ends, that nobody reads."""
    if sys.stdout is not None:
        sys.stdout.flush()


def _forget_stdout() -> None:
    """Let what is still buffered go nowhere: Python flushes once more at its end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, sys.stdout.fileno())
    except (OSError, ValueError):  # a stand-in without a file descriptor
        pass
    finally:
        os.close(nowhere)
