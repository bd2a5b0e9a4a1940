"""Small charts as SVG text: lines and histograms that follow the page's colors, light or dark, without any script."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

WIDTH, HEIGHT = 460.0, 300.0
LEFT, RIGHT, TOP, BOTTOM = 52.0, 14.0, 14.0, 44.0


def number(value: float) -> str:
    """A number in an attribute: few digits, no negative zero."""
    shown = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if shown == "-0" else shown


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers from low to high, about ``count`` of them."""
    span = high - low
    if not (span > 0 and math.isfinite(span)):
        return [low]
    raw = span / count
    base = 10.0 ** math.floor(math.log10(raw))
    step = base * min((factor for factor in (1, 2, 2.5, 5, 10) if factor * base >= raw * 0.999), default=10)
    first = math.ceil(low / step - 1e-9)
    return [index * step for index in range(first, int(math.floor(high / step + 1e-9)) + 1)]


@dataclass
class Chart:
    """One chart in a rectangle; data coordinates grow to the right and upward.

    Parameters
    ----------
    x, y : pair of float
        Ranges.
    label : str
        What the chart shows, for screen readers.
    xlabel, ylabel : str
    percent : bool
        Whether y is a share that is written in percent.
    height : float
    """

    x: tuple[float, float]
    y: tuple[float, float]
    label: str
    xlabel: str
    ylabel: str
    percent: bool = False
    height: float = HEIGHT
    parts: list[str] = field(default_factory=list)

    @property
    def left(self) -> float:
        """Room on the left: for the longest number beside the name of the axis."""
        return max(LEFT, 31.0 + 7.2 * max(len(self._written(value)) for value in ticks(*self.y)))

    def _written(self, value: float) -> str:
        return f"{100 * value:g} %" if self.percent else f"{value:g}"

    def px(self, value: float) -> float:
        """Horizontal position."""
        low, high = self.x
        return self.left + (WIDTH - self.left - RIGHT) * (value - low) / ((high - low) or 1.0)

    def py(self, value: float) -> float:
        """Vertical position."""
        low, high = self.y
        return self.height - BOTTOM - (self.height - TOP - BOTTOM) * (value - low) / ((high - low) or 1.0)

    def line(self, xs: Sequence[float], ys: Sequence[float], kind: str, title: str = "", marks: bool = False) -> None:
        """A polyline of a CSS class, with dots that tell their values when pointed at."""
        points = " ".join(f"{number(self.px(a))},{number(self.py(b))}" for a, b in zip(xs, ys, strict=True))
        self.parts.append(f'<polyline class="line {escape(kind)}" points="{points}"/>')
        for a, b in zip(xs, ys, strict=True) if marks else ():
            self.dot(a, b, kind, f"{title}: {100 * b:.1f} % at {a:g}" if self.percent else f"{title}: {b:g} at {a:g}")

    def dot(self, x: float, y: float, kind: str, title: str) -> None:
        """One dot of a CSS class that tells its title when pointed at."""
        centre = f'cx="{number(self.px(x))}" cy="{number(self.py(y))}"'
        self.parts.append(f'<circle class="dot {escape(kind)}" {centre} r="3"><title>{escape(title)}</title></circle>')

    def band(self, xs: Sequence[float], low: Sequence[float], high: Sequence[float]) -> None:
        """The area between two curves."""
        there = [f"{number(self.px(a))},{number(self.py(b))}" for a, b in zip(xs, high, strict=True)]
        back = [f"{number(self.px(a))},{number(self.py(b))}" for a, b in zip(xs, low, strict=True)]
        self.parts.append(f'<polygon class="band" points="{" ".join([*there, *reversed(back)])}"/>')

    def bar(self, start: float, stop: float, low: float, high: float, kind: str, title: str) -> None:
        """A bar from low to high."""
        if not high > low:
            return
        left, width = self.px(start), max(self.px(stop) - self.px(start) - 1.0, 0.5)
        top, height = self.py(high), self.py(low) - self.py(high)
        box = f'x="{number(left)}" y="{number(top)}" width="{number(width)}" height="{number(height)}"'
        self.parts.append(f'<rect class="bar {escape(kind)}" {box}><title>{escape(title)}</title></rect>')

    def rule(self, value: float, text: str) -> None:
        """A vertical line with a word."""
        x = number(self.px(value))
        ends = f'x1="{x}" x2="{x}" y1="{number(TOP)}" y2="{number(self.height - BOTTOM)}"'
        self.parts.append(f'<line class="rule" {ends}/>')
        self.parts.append(_text("word", self.px(value) + 4, TOP + 11, text))

    def __str__(self) -> str:
        """SVG text."""
        size = f'viewBox="0 0 {number(WIDTH)} {number(self.height)}" role="img" aria-label="{escape(self.label)}"'
        return f'<svg xmlns="http://www.w3.org/2000/svg" {size}>{self._axes()}{"".join(self.parts)}</svg>'

    def _axes(self) -> str:
        bottom, left, right, found = self.height - BOTTOM, self.left, WIDTH - RIGHT, []
        for value in ticks(*self.y):
            found.append(_level("grid", left, right, self.py(value)))
            found.append(_text("tick", left - 7, self.py(value) + 4, self._written(value), "end"))
        found += [_text("tick", self.px(value), bottom + 17, f"{value:g}", "middle") for value in ticks(*self.x)]
        found.append(_level("axis", left, right, bottom))
        found.append(_text("name", (left + right) / 2, self.height - 6, self.xlabel, "middle"))
        turn = f"translate(11 {number((TOP + bottom) / 2)}) rotate(-90)"
        found.append(f'<text class="name" text-anchor="middle" transform="{turn}">{escape(self.ylabel)}</text>')
        return "".join(found)


def _text(kind: str, x: float, y: float, text: str, anchor: str = "start") -> str:
    place = f'x="{number(x)}" y="{number(y)}" text-anchor="{anchor}"'
    return f'<text class="{kind}" {place}>{escape(text)}</text>'


def _level(kind: str, left: float, right: float, y: float) -> str:
    ends = f'x1="{number(left)}" x2="{number(right)}" y1="{number(y)}" y2="{number(y)}"'
    return f'<line class="{kind}" {ends}/>'
