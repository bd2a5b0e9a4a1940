"""Do the tests of the checkers notice a wrong checker? Small mistakes are put into every checker, one at a time.

A mutant is one function with one place of its syntax tree changed: a sign, a comparison, a minimum for a maximum, an
absolute value or an outward rounding left out, in ``convexnn.rigorous`` also a constant doubled or halved. It is
killed when honest or corrupted evidence (tests/checker_*.py) brings out an answer below the truth, one above what its
derivation adds or above what the honest function proves, an answer that proves nothing, or an error that is no refusal.
Survivors that change no valid bound are named, with the reason, in tests/mutant_equivalents.py; a name that no longer
fits, or that is killed, is an error.

    python -m tests.mutants                     every place of every checker, a table and the survivors
    python -m tests.mutants rigorous lipsdp     those whose place holds one of the words
"""

from __future__ import annotations
import __future__

import argparse
import ast
import copy
import functools
import importlib
import inspect
import signal
import sys
import time
import types
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tests.checkers import Claim, complaints

#: Words of lines whose mistakes are as small as a rounding: constants there are doubled for safety, so that many of
#: these mutants are valid bounds all the same.
ROUNDING = ("gamma(", "UNIT", "TINY", "nextafter", "2.0**-", "np.finfo", "error", "rounding")
SAME = 1e-12  # a bound that grows by more than this share of it refuses stored certificates
SECONDS = 20  # of one mutant: a loop that does not end is noticed, too
CONSTANTS = "convexnn.rigorous"  # the only place where answers are held against limits that a factor of two exceeds
SWAPPED = {"max": "min", "min": "max", "maximum": "minimum", "minimum": "maximum", "fmin": "fmax", "fmax": "fmin"}
PLAIN = {"abs": 0, "absolute": 0, "nextafter": 0, "round_up": 0}  # calls that leave their argument when left out
OPPOSITE = {
    ast.Lt: ast.GtE, ast.GtE: ast.Lt, ast.Gt: ast.LtE, ast.LtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.And: ast.Or, ast.Or: ast.And,
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Mutant:
    """One wrong version of a function."""

    where: str
    line: int
    text: str
    code: types.CodeType
    source: str = ""

    @property
    def rounding(self) -> bool:
        """Whether the mistake is one of rounding."""
        return any(word in self.text.partition(" -> ")[0] for word in ROUNDING)

    @property
    def names(self) -> tuple[str, str]:
        """The change, alone and with its line."""
        return self.text, f"{self.text} in: {self.source}"

    def __str__(self) -> str:
        """Place and change."""
        return f"{self.where}, line {self.line}: {self.text}"


def function_of(where: str) -> types.FunctionType:
    """The function behind ``module:name`` or ``module:class.name``; caches are taken off."""
    module, _, name = where.partition(":")
    found: Any = importlib.import_module(module)
    for part in name.split("."):
        found = inspect.getattr_static(found, part)
    return inspect.unwrap(getattr(found, "__func__", found))


def mutants(where: str) -> Iterator[Mutant]:
    """Every wrong version of a function."""
    function = function_of(where)
    lines, start = inspect.getsourcelines(function)
    tree = ast.parse("".join(_dedented(lines)))
    places = list(ast.walk(tree.body[0]))
    for place, node in enumerate(places):
        for change in _changes(node, constants=where.startswith(CONSTANTS)):
            wrong = copy.deepcopy(tree)
            target = list(ast.walk(wrong.body[0]))[place]
            before = ast.unparse(node)
            replaced = change(target)
            if replaced is not None:
                wrong = _replace(wrong, target, replaced)
            after = ast.unparse(target if replaced is None else replaced)
            code = _compiled(wrong, function)
            row = getattr(node, "lineno", 1) - 1
            yield Mutant(where, start + row, f"{before} -> {after}", code, lines[row].strip())


def _dedented(lines: list[str]) -> list[str]:
    width = len(lines[0]) - len(lines[0].lstrip())
    return [line[width:] if line.strip() else line for line in lines]


def _changes(node: ast.AST, constants: bool) -> Iterator[Callable[[Any], Any]]:
    """What can be changed at a node: each changes a copy in place, or gives what to put there."""
    if constants and isinstance(node, ast.Constant) and isinstance(node.value, float) and node.value:
        yield lambda target: ast.Constant(2.0 * target.value)
        yield lambda target: ast.Constant(0.5 * target.value)
    if isinstance(node, ast.BinOp | ast.BoolOp) and type(node.op) in OPPOSITE:
        yield _swap_operator
    if isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in OPPOSITE:
        yield _swap_comparison
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.Not):
        yield lambda target: target.operand
    if isinstance(node, ast.Call):
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        own = not isinstance(node.func, ast.Attribute) or getattr(node.func.value, "id", "") in ("np", "math")
        if own and name in SWAPPED and len(node.args) > 1:
            yield _swap_name
        if own and name in PLAIN and node.args:
            yield lambda target: target.args[0]


def _swap_operator(target: Any) -> None:
    target.op = OPPOSITE[type(target.op)]()


def _swap_comparison(target: Any) -> None:
    target.ops = [OPPOSITE[type(target.ops[0])]()]


def _swap_name(target: Any) -> None:
    if isinstance(target.func, ast.Attribute):
        target.func.attr = SWAPPED[target.func.attr]
    else:
        target.func.id = SWAPPED[target.func.id]


def _replace(tree: ast.Module, old: ast.AST, new: ast.AST) -> ast.Module:
    class Swap(ast.NodeTransformer):
        def generic_visit(self, node: ast.AST) -> ast.AST:
            return new if node is old else super().generic_visit(node)

        def visit(self, node: ast.AST) -> Any:
            return new if node is old else super().visit(node)

    return Swap().visit(tree)


def _compiled(tree: ast.Module, function: types.FunctionType) -> types.CodeType:
    definition = tree.body[0]
    assert isinstance(definition, ast.FunctionDef)
    definition.decorator_list = []
    ast.fix_missing_locations(tree)
    code = compile(tree, "<mutant>", "exec", flags=__future__.annotations.compiler_flag, dont_inherit=True)
    space: dict[str, Any] = dict(function.__globals__)
    exec(code, space)
    return space[function.__name__].__code__


@contextmanager
def planted(mutant: Mutant) -> Iterator[None]:
    """Put the mutant in the place of the function, everywhere at once, and take it out again."""
    function = function_of(mutant.where)
    honest = function.__code__
    _forget()
    function.__code__ = mutant.code
    try:
        yield
    finally:
        function.__code__ = honest
        _forget()


KEPT = ("polynomial_layer",)  # makes a class, which must stay the one that other tests imported


def _forget() -> None:
    """Empty the caches of the library: they would remember honest answers."""
    for name, module in list(sys.modules.items()):
        if name.startswith("convexnn"):
            for value in list(vars(module).values()):
                cached = isinstance(value, functools._lru_cache_wrapper) and value.__module__.startswith("convexnn")
                if cached and value.__name__ not in KEPT:
                    value.cache_clear()


def killed(mutant: Mutant, tests: list[Callable[[], Iterator[str]]]) -> str | None:
    """What brought the mutant to light; None when nothing did."""
    with planted(mutant), warnings.catch_warnings(), _in_time():
        warnings.simplefilter("ignore")
        try:
            for test in tests:
                for complaint in test():
                    return complaint
        except Exception as error:  # whatever a wrong checker runs into
            return f"{type(error).__name__}: {error}"
    return None


@contextmanager
def _in_time() -> Iterator[None]:
    def stop(*_: Any) -> None:
        raise TimeoutError("the mutant does not end")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def as_tests(claims: Iterable[Claim], seed: int = 0) -> list[Callable[[], Iterator[str]]]:
    """Claims as tests: what was proved before is proved again, and corrupted evidence, the same every time."""
    return [_as_test(claim, claim.answers(), seed) for claim in claims]


def _as_test(claim: Claim, known: np.ndarray, seed: int) -> Callable[[], Iterator[str]]:
    def test() -> Iterator[str]:
        yield from complaints(claim, np.random.default_rng(seed))
        found = claim.answers()
        if not claim.both and not (found <= known + SAME * np.abs(known)).all():
            yield f"{claim.name}: {found} is not what was proved before, {known}: stored certificates are refused"

    return test


@dataclass
class Row:
    """What became of the mutants of one function."""

    where: str
    killed: int = 0
    named: int = 0
    rounding: list[Mutant] = field(default_factory=list)
    other: list[Mutant] = field(default_factory=list)
    stale: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        """One row of the table: mutants, killed, equivalent, survived (mistakes of rounding, others)."""
        open_ = len(self.rounding), len(self.other)
        total = self.killed + self.named + sum(open_)
        return f"| {self.where} | {total} | {self.killed} | {self.named} | {open_[0]} | {open_[1]} |"


def tried(where: str, tests: list[Callable[[], Iterator[str]]], reasons: Mapping[str, str]) -> Row:
    """Plant every mutant of a function; ``reasons`` says which of them change no valid bound, and why."""
    row, unused = Row(where), set(reasons)
    for mutant in mutants(where):
        dead = killed(mutant, tests) is not None
        name = next((one for one in mutant.names if one in reasons), None)
        row.killed += dead
        if not dead and name is None:
            (row.rounding if mutant.rounding else row.other).append(mutant)
        if not dead and name is not None:
            row.named += 1
            unused.discard(name)
    row.stale = sorted(unused)
    return row


def report(rows: list[Row]) -> None:
    """The table, the survivors, and names of equivalent mutants that do not fit."""
    print("\n| function | mutants | killed | equivalent | survived: rounding | survived: other |")
    print("|---|---|---|---|---|---|")
    for row in rows:
        print(row)
    whole = Row("all", sum(r.killed for r in rows), sum(r.named for r in rows))
    for row in rows:
        whole.rounding += row.rounding
        whole.other += row.other
    print(whole)
    for row in rows:
        for mutant in (*row.other, *row.rounding):
            print(f"survivor: {'[rounding] ' if mutant.rounding else ''}{mutant}")
        for name in row.stale:
            print(f"no longer equivalent, or gone: {row.where}: {name}")


def main() -> int:
    """Plant every mutant and print the table; 1 when a named equivalent is none, or a mutant of CONSTANTS survives."""
    from tests.mutant_equivalents import EQUIVALENT
    from tests.mutant_targets import TARGETS, found_by

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", default=[""], help="only functions whose place holds one of these")
    words = parser.parse_args().words
    rows: list[Row] = []
    made: dict[str, list[Callable[[], Iterator[str]]]] = {}
    began = time.process_time()
    for where, names in TARGETS.items():
        if not any(word in where for word in words):
            continue
        for name in names:
            made[name] = made[name] if name in made else found_by(name)
        tests = [test for name in names for test in made[name]]
        wrong = next((complaint for test in tests for complaint in test()), None)
        if wrong is not None:  # every mutant would count as killed
            sys.exit(f"the honest library is complained about: {wrong}")
        rows.append(tried(where, tests, EQUIVALENT.get(where, {})))
        print(rows[-1], flush=True)
    report(rows)
    print(f"{time.process_time() - began:.0f} CPU seconds")
    must = (row for row in rows if row.where.startswith(CONSTANTS))
    return int(any(row.stale for row in rows) or any(row.rounding or row.other for row in must))


if __name__ == "__main__":
    sys.exit(main())
