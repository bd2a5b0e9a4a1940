"""Numbers in print: a bound that is shown with few digits is rounded to the side on which it stays one."""

from __future__ import annotations

from decimal import ROUND_CEILING, ROUND_FLOOR, Context

UP, DOWN = True, False


def written(x: float, digits: int, up: bool = UP) -> str:
    """A number with at most so many significant digits, none smaller (``up``) or none larger than x itself."""
    context = Context(prec=digits, rounding=ROUND_CEILING if up else ROUND_FLOOR)
    return f"{float(context.create_decimal_from_float(float(x))):.{digits}g}"


def exactly(x: float) -> str:
    """A number with all of its digits, ten where these tell it from every other float."""
    short = f"{float(x):.10g}"
    return short if float(short) == float(x) else repr(float(x))


def share_written(count: int, total: int, decimals: int, up: bool) -> str:
    """``count / total`` with so many decimals, none smaller (``up``) or none larger than the fraction itself."""
    scaled = count * 10**decimals
    whole = -(-scaled // total) if up else scaled // total
    return f"{whole // 10**decimals}.{whole % 10**decimals:0{decimals}d}"
