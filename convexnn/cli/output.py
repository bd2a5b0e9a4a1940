"""What the commands say: results on stdout, as text or as one JSON object; progress, warnings and errors on stderr."""

from __future__ import annotations

import logging
import sys
import textwrap
from argparse import Namespace
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, NoReturn

from rich.console import Console

from convexnn.cli.progress import Heartbeat
from convexnn.cli.records import Record

if TYPE_CHECKING:
    from convexnn.report import Sheet

#: Width where the terminal does not tell: tables must not be cut in files and pipes.
WIDTH = 130


class _Console(Console):
    """A console that tells when nobody reads any more, instead of ending the process."""

    def on_broken_pipe(self) -> NoReturn:
        raise BrokenPipeError


class Output:
    """The two streams of a command; text is printed as it is, never read as markup.

    Parameters
    ----------
    arguments : Namespace, optional
        ``json``: nothing but one object on stdout. ``quiet``: no progress and no warnings. ``verbose``: what the
        library logs, and with ``json`` the text as well, on stderr.
    """

    def __init__(self, arguments: Namespace | None = None) -> None:
        self.json, self.quiet, self.verbose = (
            bool(getattr(arguments, name, False)) for name in ("json", "quiet", "verbose")
        )
        self.record = Record(getattr(arguments, "command", None))
        self.out, self.err = _Console(), _Console(stderr=True)
        if not self.out.is_terminal:
            self.out = _Console(width=WIDTH)
        if not self.err.is_terminal:
            self.err = _Console(stderr=True, width=WIDTH)
        self._text = self.out
        if self.json:
            self._text = self.err if self.verbose else _Console(quiet=True)

    def say(self, text: str = "") -> None:
        """Print a line, wrapped at words."""
        width = min(self._text.width, 100)
        for line in text.split("\n"):
            filled = textwrap.fill(line, width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
            self._text.print(filled, markup=False, highlight=False, soft_wrap=True)

    def table(self, sheet: Sheet) -> None:
        """Print a table, turned when the terminal is too narrow, and its notes."""
        from convexnn.report import to_rich, transposed  # scikit-learn comes with it, which help does not need

        drawn = to_rich(sheet)
        options = self._text.options.update(width=1000)
        if self._text.measure(drawn, options=options).maximum > self._text.width:
            drawn = to_rich(transposed(sheet))
        self._text.print(drawn, markup=False, highlight=False, crop=False)
        for note in sheet.notes:
            self.say(note)

    def result(self, **fields: Any) -> None:
        """Add fields to the JSON object of the command."""
        self.record.fields.update(fields)

    def write(self, text: str) -> None:
        """Write text to stdout exactly as it is; sys.stdout is None where it was closed."""
        if sys.stdout is not None:
            sys.stdout.write(text)
            sys.stdout.flush()

    def working(self, what: str) -> AbstractContextManager[Any]:
        """Return a context with signs of life: a spinner on a terminal, a line now and then in a log file.

        With ``verbose`` what the library logs is shown instead, a line each.
        """
        if self.verbose:
            return self.following()
        if self.quiet:
            return nullcontext()
        return self.err.status(what) if self.err.is_terminal else Heartbeat(what, self._complain)

    @contextmanager
    def following(self, name: str = "convexnn") -> Iterator[None]:
        """Show what the library logs under a name, a line each, on stderr; the logger is left as it was."""
        logger, handler = logging.getLogger(name), logging.StreamHandler(self.err.file)
        level = logger.level
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        try:
            yield
        finally:
            logger.removeHandler(handler)
            logger.setLevel(level)

    def error(self, sentence: str) -> None:
        """Print one sentence on stderr."""
        self.record.error = " ".join(sentence.split())
        self._complain(f"convexnn: {sentence}")

    def warn(self, message: Warning | str, *_where: Any, **_how: Any) -> None:
        """Print a warning on stderr without its place in the code; stands in for ``warnings.showwarning``."""
        sentence = " ".join(str(message).removeprefix("convexnn: ").split())
        self.record.warnings.append(sentence)
        if not self.quiet:
            self._complain(f"warning: {sentence}")

    def _complain(self, text: str) -> None:
        self.err.print(" ".join(text.split()), markup=False, highlight=False, soft_wrap=True)
