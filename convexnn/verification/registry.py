"""Every certification method by name. A method is imported when it is used, so a missing part hurts nobody else."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any

from convexnn.exceptions import InvalidInputError
from convexnn.propagation import Certifier


@dataclass(frozen=True)
class Method:
    """A certification method: what it does, when it refuses, where its certifier is.

    Attributes
    ----------
    name : str
    sentence : str
        What it computes.
    refuses : str
        What it does not apply to.
    rigorous : bool
        Whether its bounds are recomputed from evidence with outward rounding; else they are a solver's word.
    location : str
        ``module:attribute`` of its Certifier.
    """

    name: str
    sentence: str
    refuses: str
    location: str
    rigorous: bool = True


_TABLE = (
    Method(
        "ibp",
        "Intervals carried through the layers.",
        "nothing",
        "convexnn.propagation.crown:IBP",
    ),
    Method(
        "crown",
        "Linear bounds carried backwards through the layers, slopes fixed by rule.",
        "nothing",
        "convexnn.propagation.crown:CROWN",
    ),
    Method(
        "alpha_crown",
        "The same with optimized slopes.",
        "nothing",
        "convexnn.propagation.alpha_crown:ALPHA_CROWN",
    ),
    Method(
        "lp",
        "The triangle relaxation: a linear program (HiGHS), over balls a second-order cone program (Clarabel).",
        "smooth activations",
        "convexnn.relaxations.linear:LP",
    ),
    Method(
        "max_gradient",
        "A semidefinite bound on the gradient, one for each pair of classes.",
        "several hidden layers, activations with unbounded slopes",
        "convexnn.relaxations.lipschitz_bounds:MAX_GRADIENT",
    ),
    Method(
        "lipsdp",
        "The LipSDP bound on the Lipschitz constant of every margin.",
        "activations with unbounded slopes",
        "convexnn.relaxations.lipschitz_bounds:LIPSDP",
    ),
    Method(
        "sdp",
        "The semidefinite relaxation by a structured interior point method.",
        "smooth activations, samples with too many unstable units",
        "convexnn.relaxations.arrow.certifier:SDP",
    ),
    Method(
        "sdp_first_order",
        "The semidefinite relaxation by first-order steps on its dual, for large networks.",
        "smooth activations",
        "convexnn.relaxations.first_order:FIRST_ORDER",
    ),
    Method(
        "milp",
        "The exact maximum over a box by a mixed-integer program (HiGHS), on the word of the solver.",
        "smooth activations",
        "convexnn.relaxations.mixed_integer:MILP",
        rigorous=False,
    ),
    Method(
        "branch_and_bound",
        "The exact maximum, to a tolerance, by branching on the signs of the units.",
        "smooth activations",
        "convexnn.branching.certifier:BRANCH_AND_BOUND",
    ),
    Method(
        "quadratic",
        "The exact maximum of a polynomial network with one hidden layer over a ball; bounds over a box.",
        "other networks",
        "convexnn.verification.quadratic:QUADRATIC",
    ),
)
METHODS: dict[str, Method] = {method.name: method for method in _TABLE}
COMBINED = "convexnn.verification.combined:COMBINED"


@cache
def get_certifier(name: str) -> Certifier:
    """The certifier of a method, imported now.

    Raises
    ------
    InvalidInputError
        For names that are not known.
    """
    if name != "combined" and name not in METHODS:
        raise InvalidInputError(f"Unknown method {name!r}; expected 'auto' or one of {sorted(METHODS)}.")
    module, _, attribute = (COMBINED if name == "combined" else METHODS[name].location).partition(":")
    found: Any = getattr(import_module(module), attribute)
    return found


def is_there(name: str) -> bool:
    """Whether the certifier of a method can be imported here."""
    try:
        get_certifier(name)
    except (ImportError, AttributeError):
        return False
    return True


@dataclass(frozen=True)
class MethodTable:
    """The methods as a table: indexable by name, printable.

    Attributes
    ----------
    methods : tuple of Method
    """

    methods: tuple[Method, ...]

    def __iter__(self) -> Any:
        """Names, in order of cost."""
        return iter(method.name for method in self.methods)

    def __len__(self) -> int:
        """Number of methods."""
        return len(self.methods)

    def __getitem__(self, name: str) -> Method:
        """The method of this name."""
        return next(method for method in self.methods if method.name == name)

    def __str__(self) -> str:
        """One line a method: name, sentence, what it refuses."""
        width = max(len(method.name) for method in self.methods)
        word = {True: "", False: " Not rigorous."}
        return "\n".join(
            f"{m.name:{width}}  {m.sentence}{word[m.rigorous]} Refuses: {m.refuses}." for m in self.methods
        )


def methods() -> MethodTable:
    """Every certification method: name, one sentence, what it refuses, whether its bounds are rigorous."""
    return MethodTable(_TABLE)
