"""Formulas over inputs and outputs as alternatives of linear conditions (disjunctive normal form)."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from convexnn.exchange.s_expressions import Group, Symbol, Text

NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")

#: Alternatives, and conditions in all of them together, beyond which a formula is refused.
MAX_ALTERNATIVES, MAX_CONDITIONS = 20_000, 2_000_000

Name = tuple[str, int]  # ("X", 3)


@dataclass(frozen=True)
class Linear:
    """``sum coefficients + constant``."""

    coefficients: dict[Name, float]
    constant: float

    def plus(self, other: Linear, factor: float = 1.0) -> Linear:
        """``self + factor * other``."""
        found = dict(self.coefficients)
        for name, value in other.coefficients.items():
            found[name] = found.get(name, 0.0) + factor * value
        return Linear(found, self.constant + factor * other.constant)

    def scaled(self, factor: float) -> Linear:
        """``factor * self``."""
        return Linear({name: factor * value for name, value in self.coefficients.items()}, factor * self.constant)

    @property
    def is_finite(self) -> bool:
        """Whether nothing overflowed."""
        return math.isfinite(self.constant) and all(map(math.isfinite, self.coefficients.values()))


@dataclass(frozen=True)
class Condition:
    """``form >= 0``, or ``> 0`` when strict."""

    form: Linear
    strict: bool = False


Conditions = tuple[Condition, ...]
Alternatives = list[Conditions]  # any of these, each with all of its conditions

COMPARISONS = {"<=": (1, False), ">=": (-1, False), "<": (1, True), ">": (-1, True)}


@dataclass(frozen=True)
class Reader:
    """Formulas of one text, whose variables are declared."""

    text: Text
    names: dict[str, Name]

    def alternatives(self, root: Group | Symbol) -> Alternatives:
        """The formula in disjunctive normal form.

        Raises
        ------
        InvalidInputError
            Says where: unknown words, products of variables, too many alternatives.
        """
        found = self._evaluate(root)
        if isinstance(found, Linear):
            raise self.text.error(root.start, "a condition was expected, this is a number.")
        return found

    def _evaluate(self, root: Group | Symbol) -> Linear | Alternatives:
        """From the leaves up, with a stack of our own: one frame is (node, negated, results of its items)."""
        frames: list[tuple[Group | Symbol, bool, list[Linear | Alternatives]]] = [(root, False, [])]
        while True:
            node, negated, results = frames[-1]
            if isinstance(node, Group) and len(results) < len(node.items) - 1:
                child = node.items[len(results) + 1]
                frames.append((child, negated != (node.head == "not"), []))
                continue
            frames.pop()
            value = self._leaf(node, negated) if isinstance(node, Symbol) else self._group(node, negated, results)
            if not frames:
                return value
            frames[-1][2].append(value)

    def _leaf(self, node: Symbol, negated: bool) -> Linear | Alternatives:
        if node.text in ("true", "false"):
            return [()] if (node.text == "true") != negated else []
        if node.text in self.names:
            return Linear({self.names[node.text]: 1.0}, 0.0)
        if NUMBER.fullmatch(node.text):
            value = float(node.text)
            if not math.isfinite(value):
                raise self.text.error(node.start, f"the number {node.text[:40]!r} is too large.")
            return Linear({}, value)
        raise self.text.error(node.start, f"{node.text[:40]!r} is neither a number nor a declared variable.")

    def _group(self, node: Group, negated: bool, results: list[Linear | Alternatives]) -> Linear | Alternatives:
        head = node.head
        if head in ("and", "or", "not"):
            return self._connective(node, negated, [self._formula(node, item) for item in results])
        forms = [item for item in results if isinstance(item, Linear)]
        if not forms or len(forms) < len(results):
            known = "and, or, not, <=, >=, <, >, =, +, -, *, /"
            raise self.text.error(node.start, f"({head[:40]} ...) needs numbers and variables; known are {known}.")
        if head in COMPARISONS or head == "=":
            return self._comparison(node, negated, forms)
        return self._arithmetic(node, forms)

    def _formula(self, node: Group, item: Linear | Alternatives) -> Alternatives:
        if isinstance(item, Linear):
            raise self.text.error(node.start, f"({node.head} ...) needs conditions, not numbers.")
        return item

    def _connective(self, node: Group, negated: bool, items: list[Alternatives]) -> Alternatives:
        if node.head == "not":
            if len(items) != 1:
                raise self.text.error(node.start, f"(not ...) needs one condition, got {len(items)}.")
            return items[0]  # its item was read negated
        return self.conjunction(items, node.start) if (node.head == "and") != negated else self._any(items, node.start)

    def _any(self, items: Sequence[Alternatives], start: int) -> Alternatives:
        self._guard(sum(map(len, items)), sum(sum(map(len, item)) for item in items), start)
        return list(itertools.chain.from_iterable(items))

    def conjunction(self, items: Sequence[Alternatives], start: int) -> Alternatives:
        """All of them: every choice of one alternative each."""
        count = math.prod(map(len, items))
        if count == 0:
            return []
        fixed = tuple(itertools.chain.from_iterable(item[0] for item in items if len(item) == 1))
        open_items = [item for item in items if len(item) > 1]
        size = count * len(fixed) + sum(count // len(item) * sum(map(len, item)) for item in open_items)
        self._guard(count, size, start)
        return [(*fixed, *itertools.chain.from_iterable(choice)) for choice in itertools.product(*open_items)]

    def _guard(self, alternatives: int, conditions: int, start: int) -> None:
        if alternatives > MAX_ALTERNATIVES or conditions > MAX_CONDITIONS:
            raise self.text.error(
                start,
                f"this formula has {alternatives} alternatives with {conditions} conditions; "
                f"{MAX_ALTERNATIVES} and {MAX_CONDITIONS} are the limit. Split it into several files.",
            )

    def _comparison(self, node: Group, negated: bool, forms: list[Linear]) -> Alternatives:
        if len(forms) < 2:
            raise self.text.error(node.start, f"({node.head} ...) needs two sides, got {len(forms)}.")
        found: list[Condition] = []
        for one, two in itertools.pairwise(forms):
            difference = two.plus(one, -1.0)
            if not difference.is_finite:
                raise self.text.error(node.start, "the numbers of this condition overflow.")
            if node.head == "=":
                found += [Condition(difference), Condition(difference.scaled(-1.0))]
                continue
            sign, strict = COMPARISONS[node.head]
            found.append(Condition(difference if sign == 1 else one.plus(two, -1.0), strict))
        if not negated:
            return [tuple(found)]
        return [(Condition(item.form.scaled(-1.0), not item.strict),) for item in found]

    def _arithmetic(self, node: Group, forms: list[Linear]) -> Linear:
        first, rest = forms[0], forms[1:]
        if node.head == "-" and not rest:
            return first.scaled(-1.0)
        if node.head in ("+", "-"):
            for form in rest:
                first = first.plus(form, 1.0 if node.head == "+" else -1.0)
            return first
        if node.head == "*":
            for form in rest:
                if first.coefficients and form.coefficients:
                    raise self.text.error(node.start, "a product of two variables is not linear.")
                first = form.scaled(first.constant) if form.coefficients else first.scaled(form.constant)
            return first
        if node.head == "/" and len(rest) == 1 and not rest[0].coefficients and rest[0].constant != 0.0:
            divisor = rest[0].constant
            quotients = {name: value / divisor for name, value in first.coefficients.items()}
            return Linear(quotients, first.constant / divisor)
        raise self.text.error(
            node.start, f"({node.head[:40]} ...) is not supported; + - *, and / by a number other than zero, are."
        )
