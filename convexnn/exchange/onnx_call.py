"""A node of a graph with the tensors that it reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from convexnn.exceptions import UnsupportedModelError
from convexnn.exchange.onnx_file import Node
from convexnn.exchange.signals import Value

Tensor = Any  # a Value, or a numpy array
Operands = tuple[Tensor, ...]


@dataclass(frozen=True)
class Call:
    """A node with the tensors it reads; None stands for an input left out."""

    node: Node
    operands: Operands
    merge: bool

    def get(self, name: str, default: Any = None) -> Any:
        """An attribute."""
        return self.node.attributes.get(name, default)

    def operand(self, index: int, default: Any = None) -> Tensor:
        """An input; the default when it is left out."""
        found = self.operands[index] if index < len(self.operands) else None
        return default if found is None else found

    def constant(self, index: int, what: str, default: Any = None) -> Any:
        """An input that must be a constant."""
        found = self.operand(index, default)
        if isinstance(found, Value):
            raise UnsupportedModelError(f"has {what} that depends on the input of the model.")
        return found

    def integers(self, index: int, what: str, attribute: str | None = None) -> tuple[int, ...] | None:
        """Whole numbers from a constant input, or from the attribute that older versions used; None when absent."""
        found = self.get(attribute) if attribute and attribute in self.node.attributes else None
        found = self.constant(index, what) if found is None else found
        return None if found is None else tuple(int(value) for value in np.ravel(found))
