"""What the commands say: tables and sentences on stdout, warnings and errors on stderr."""

from __future__ import annotations

import logging
import textwrap
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from rich.console import Console

from convexnn.report import Sheet, to_rich, transposed

#: Width where the terminal does not tell: tables must not be cut in files and pipes.
WIDTH = 130


class Output:
    """The two streams of a command; text is printed as it is, never read as markup."""

    def __init__(self) -> None:
        self.out, self.err = Console(), Console(stderr=True)
        if not self.out.is_terminal:
            self.out = Console(width=WIDTH)

    def say(self, text: str = "") -> None:
        """Print a line, wrapped at words."""
        width = min(self.out.width, 100)
        for line in text.split("\n"):
            filled = textwrap.fill(line, width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
            self.out.print(filled, markup=False, highlight=False, soft_wrap=True)

    def table(self, sheet: Sheet) -> None:
        """Print a table, turned when the terminal is too narrow, and its notes."""
        drawn = to_rich(sheet)
        if self.out.measure(drawn, options=self.out.options.update(width=1000)).maximum > self.out.width:
            drawn = to_rich(transposed(sheet))
        self.out.print(drawn, markup=False, highlight=False, crop=False)
        for note in sheet.notes:
            self.say(note)

    def working(self, what: str) -> AbstractContextManager[Any]:
        """Return a context that shows a spinner on a terminal and nothing elsewhere."""
        return self.err.status(what)

    @contextmanager
    def following(self) -> Iterator[None]:
        """Show what the library logs, a line each, on stderr; the logger is left as it was."""
        logger, handler = logging.getLogger("convexnn"), logging.StreamHandler(self.err.file)
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
        self._complain(f"convexnn: {sentence}")

    def warn(self, message: Warning | str, *_where: Any, **_how: Any) -> None:
        """Print a warning on stderr without its place in the code; stands in for ``warnings.showwarning``."""
        self._complain(f"warning: {str(message).removeprefix('convexnn: ')}")

    def _complain(self, text: str) -> None:
        self.err.print(" ".join(text.split()), markup=False, highlight=False, soft_wrap=True)
