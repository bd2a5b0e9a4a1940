"""Parenthesized text (SMT-LIB) as nested lists; no recursion, so no depth is too deep."""

from __future__ import annotations

import re
from dataclasses import dataclass

from convexnn.exceptions import InvalidInputError

TOKEN = re.compile(r';[^\n]*|[()]|"(?:[^"]|"")*"|\|[^|]*\||[^\s();"|]+|["|]')


@dataclass(frozen=True)
class Symbol:
    """A word or number, and where it stands."""

    text: str
    start: int


@dataclass(frozen=True, eq=False)
class Group:
    """What stands between two parentheses."""

    items: list[Symbol | Group]
    start: int

    @property
    def head(self) -> str:
        """The first word; empty when there is none."""
        return self.items[0].text if self.items and isinstance(self.items[0], Symbol) else ""


@dataclass(frozen=True)
class Text:
    """The whole text with its name; knows lines and columns."""

    text: str
    label: str

    def error(self, start: int, sentence: str) -> InvalidInputError:
        """An error that says where: line and column count from 1."""
        line = self.text.count("\n", 0, start) + 1
        column = start - self.text.rfind("\n", 0, start)
        return InvalidInputError(f"{self.label}, line {line}, column {column}: {sentence}")

    def groups(self) -> list[Group]:
        """The groups of the outermost level.

        Raises
        ------
        InvalidInputError
            For a parenthesis without partner or a word outside of all.
        """
        top = Group([], 0)
        open_groups = [top]
        for match in TOKEN.finditer(self.text):
            token, start = match.group(), match.start()
            if token.startswith(";"):
                continue
            if token == "(":
                group = Group([], start)
                open_groups[-1].items.append(group)
                open_groups.append(group)
            elif token == ")":
                if len(open_groups) == 1:
                    raise self.error(start, "this parenthesis closes nothing.")
                open_groups.pop()
            elif len(open_groups) == 1 or token in '"|':
                raise self.error(start, f"{token[:40]!r} stands where a command in parentheses was expected.")
            else:
                open_groups[-1].items.append(Symbol(token, start))
        if len(open_groups) > 1:
            raise self.error(open_groups[-1].start, "this parenthesis is never closed.")
        return [item for item in top.items if isinstance(item, Group)]
