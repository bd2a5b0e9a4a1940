"""The rows of a training program in blocks on a device: patterns as bits, nothing wider than a block.

Everything that has one entry per row lives here, in torch, on the processor or on a GPU; everything that has one entry
per variable lives in numpy on the processor. Between the two travel points, gradients and a few row numbers.
Memory is that of the inputs (n d numbers), the patterns (n p bits) and one block.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convexnn.exceptions import InvalidInputError
from convexnn.structure import ConeStructure

Array = NDArray[np.float64]
IntArray = NDArray[np.intp]

#: Numbers in the widest array of a block.
BLOCK_ENTRIES = 1_000_000
#: Every such share of the rows offers its most violated row of each unit.
SHARES = 100


class RowStream:
    """Passes over the rows of a structure with features divided by ``scale`` and targets by ``unit``.

    Parameters
    ----------
    structure : ConeStructure
        The program as offered.
    scale : array, shape (d + 1,)
        Powers of two, so that slacks keep their digits.
    unit : float
        Power of two near the spread of the targets.
    device : str
        "auto" (CUDA when torch sees a device), "cpu", "cuda", "cuda:1", ...
    dtype : {"float64", "float32"}
        Arithmetic of sums over rows; slacks are always float64.
    block : int or None
        Rows handled at a time, rounded up to whole shares; None lets a block hold about 10^6 numbers.
    """

    def __init__(
        self,
        structure: ConeStructure,
        scale: Array,
        unit: float,
        *,
        device: str = "auto",
        dtype: str = "float64",
        block: int | None = None,
    ) -> None:
        import torch

        self._torch = torch
        self.device = torch_device(device)
        if dtype not in ("float64", "float32"):
            raise InvalidInputError(f"dtype={dtype!r} was given; expected 'float64' or 'float32'")
        self.dtype = getattr(torch, dtype)
        self.n, self.d1 = structure.X.shape
        self.p = structure.D.shape[1]
        self.share = max(8, -(-self.n // SHARES))
        self.X = self._tensor(structure.X / scale)
        self.length = self.X.norm(dim=1)
        self.weight = self._tensor(structure.weight)
        self.y = self._tensor(structure.y_centred / unit)
        self.variance = float((self.weight * self.y * self.y).sum())
        self._pack(structure)
        self.is_row = self._tensor(np.abs(structure.S).max(axis=1))
        wide = BLOCK_ENTRIES // max(self.p, 1) if block is None else block
        self.block = self.share * max(1, -(-wide // self.share))
        self._bits = torch.arange(7, -1, -1, dtype=torch.uint8, device=self.device)

    def _tensor(self, array: Array) -> Any:
        return self._torch.as_tensor(np.ascontiguousarray(array), dtype=self._torch.float64, device=self.device)

    def _pack(self, structure: ConeStructure) -> None:
        """Distinct patterns as bits, and pattern number and sign of every unit."""
        packed = np.concatenate(
            [np.packbits(structure.D[:, first : first + 64] != 0, axis=0) for first in range(0, self.p, 64)], axis=1
        )
        _, first, group = np.unique(packed.T, axis=0, return_index=True, return_inverse=True)
        self.group: IntArray = group.ravel()
        self.groups = len(first)
        rows = [np.packbits(structure.D[k : k + 4096, first] != 0, axis=1) for k in range(0, self.n, 4096)]
        self.patterns = self._torch.as_tensor(np.concatenate(rows), device=self.device)
        live = np.flatnonzero(structure.S.any(axis=1))[:1]
        sign = structure.S[live] * (2 * (structure.D[live] != 0) - 1.0)
        self.sign: Array = sign[0] if len(live) else np.zeros(self.p)

    def _blocks(self, size: int | None = None) -> Iterator[slice]:
        step = size or self.block
        for first in range(0, self.n, step):
            yield slice(first, min(self.n, first + step))

    def _gates(self, k: Any, dtype: Any) -> Any:
        """Patterns of a block, 0 / 1, shape (rows, groups)."""
        bits = (self.patterns[k][:, :, None] >> self._bits) & 1
        return bits.reshape(len(bits), -1)[:, : self.groups].to(dtype)

    # -- the loss -----------------------------------------------------------------------------------
    def moments(self) -> tuple[Array, Array]:
        """Weighted means of the activated inputs, and twice those times the targets, each (groups, d + 1)."""
        mean = self._zeros(self.groups, self.d1)
        linear = self._zeros(self.groups, self.d1)
        for k in self._blocks():
            gates = self._gates(k, self.dtype)
            weighted = (self.X[k] * self.weight[k, None]).to(self.dtype)
            mean += gates.T @ weighted
            linear += gates.T @ (weighted * self.y[k, None].to(self.dtype))
        return self._array(mean), 2 * self._array(linear)

    def hessian(self, mean: Array) -> Array:
        """``2 sum_k weight_k phi_k phi_k'`` of centred features ``phi``, order ``groups (d + 1)``.

        One matrix product: pairs of patterns against pairs of inputs.
        """
        torch, G, d1 = self._torch, self.groups, self.d1
        i, j = torch.triu_indices(G, G, device=self.device)
        a, b = torch.triu_indices(d1, d1, device=self.device)
        total = self._zeros(len(i), len(a))
        for k in self._blocks(max(64, BLOCK_ENTRIES * 4 // (len(i) + len(a)))):
            gates, X = self._gates(k, self.dtype), self.X[k].to(self.dtype)
            pairs = X[:, a] * X[:, b] * self.weight[k, None].to(self.dtype)
            total += (gates[:, i] * gates[:, j]).T @ pairs
        blocks = self._zeros(len(i), d1, d1)
        blocks[:, a, b] = total
        blocks[:, b, a] = total
        H = self._zeros(G, G, d1, d1)
        H[i, j] = blocks
        H[j, i] = blocks
        dense = self._array(H.permute(0, 2, 1, 3).reshape(G * d1, G * d1))
        flat = mean.ravel()
        dense -= np.outer(flat, flat)
        dense *= 2
        return dense

    def diagonal_blocks(self, mean: Array) -> Array:
        """Blocks of :meth:`hessian` of one pattern each, shape (groups, d + 1, d + 1)."""
        total = self._zeros(self.groups, self.d1 * self.d1)
        for k in self._blocks():
            X = self.X[k].to(self.dtype)
            pairs = (X[:, :, None] * X[:, None, :]).reshape(len(X), -1) * self.weight[k, None].to(self.dtype)
            total += self._gates(k, self.dtype).T @ pairs
        blocks = self._array(total).reshape(self.groups, self.d1, self.d1)
        return 2 * (blocks - mean[:, :, None] * mean[:, None, :])

    def hessian_times(self, T: Array, mean: Array) -> Array:
        """:meth:`hessian` times ``T`` (groups, d + 1) in one pass, without forming it."""
        total, image = self._tensor(T).to(self.dtype), self._zeros(self.groups, self.d1)
        for k in self._blocks():
            gates, X = self._gates(k, self.dtype), self.X[k].to(self.dtype)
            prediction = (gates * (X @ total.T)).sum(dim=1) * self.weight[k].to(self.dtype)
            image += gates.T @ (X * prediction[:, None])
        return 2 * (self._array(image) - float(np.vdot(mean, T)) * mean)

    def residual(self, T: Array) -> Array:
        """``2 weight (prediction - target)`` with centred predictions in float64, shape (n,)."""
        torch, total = self._torch, self._tensor(T)
        raw = torch.cat([(self._gates(k, torch.float64) * (self.X[k] @ total.T)).sum(dim=1) for k in self._blocks()])
        return self._array(2 * self.weight * (raw - (self.weight * raw).sum() - self.y))

    # -- the cones ----------------------------------------------------------------------------------
    def slacks(self, V: Array, units: IntArray) -> tuple[Array, IntArray]:
        """Smallest slack over row length in every share of the rows, and the row that has it.

        Parameters
        ----------
        V : array, shape (p, d + 1)
        units : array of int, shape (u,)

        Returns
        -------
        values, rows : arrays, shape (shares, u)
            In float64. Rows that constrain nothing count as infinitely slack.
        """
        torch = self._torch
        columns = torch.as_tensor(self.group[units], device=self.device)
        directions = self._tensor(V[units] * self.sign[units, None]).T.contiguous()
        values, rows = [], []
        for k in self._blocks():
            slack = (self.X[k] @ directions) / self.length[k, None]
            slack *= 2 * self._gates(k, torch.float64)[:, columns] - 1
            slack[self.is_row[k] == 0] = torch.inf
            whole = len(slack) - len(slack) % self.share
            parts = [slack[:whole].reshape(-1, self.share, len(units)), slack[None, whole:]]
            for first, part in zip((0, whole), parts, strict=True):
                if part.numel():
                    smallest, where = part.min(dim=1)
                    starts = k.start + first + self.share * torch.arange(len(part), device=self.device)
                    values.append(smallest)
                    rows.append(where + starts[:, None])
        return self._array(torch.cat(values)), torch.cat(rows).cpu().numpy()

    def cone_rows(self, unit: int, rows: IntArray) -> Array:
        """Rows ``sign (2 D - 1) x / |x|`` of one unit's cone, shape (rows, d + 1)."""
        index = self._torch.as_tensor(rows, device=self.device)
        column = int(self.group[unit])
        active = (self.patterns[index, column // 8] >> (7 - column % 8)) & 1
        signed = (2.0 * active.to(self._torch.float64) - 1) * float(self.sign[unit]) / self.length[index]
        return self._array(self.X[index] * signed[:, None])

    def row_lengths(self, rows: IntArray) -> Array:
        """Length of the scaled inputs, shape (rows,)."""
        return self._array(self.length[self._torch.as_tensor(rows, device=self.device)])

    def _zeros(self, *shape: int) -> Any:
        return self._torch.zeros(shape, dtype=self._torch.float64, device=self.device)

    def _array(self, tensor: Any) -> Array:
        return np.array(tensor.cpu().numpy(), dtype=np.float64)


def torch_device(device: str) -> Any:
    """Torch device of a name; "auto" is CUDA when torch sees one.

    Raises
    ------
    InvalidInputError
        For an unknown name or a device that is not there.
    """
    import torch

    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        kind = torch.device(device)
    except RuntimeError as error:
        raise InvalidInputError(f"device={device!r} is unknown; use 'auto', 'cpu', 'cuda' or 'cuda:1'") from error
    if kind.type not in ("cpu", "cuda"):
        raise InvalidInputError(f"device={device!r} is not supported; use 'auto', 'cpu' or 'cuda'")
    if kind.type == "cuda" and (kind.index or 0) >= torch.cuda.device_count():
        raise InvalidInputError(f"device={device!r} was asked for, torch sees {torch.cuda.device_count()} CUDA devices")
    return kind
