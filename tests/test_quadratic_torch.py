"""Worst cases in torch: the numbers of numpy, and gradients that finite differences confirm."""

from __future__ import annotations

import numpy as np
import pytest

from convexnn import InvalidInputError, Network, Polynomial
from convexnn.quadratic.form import QuadraticForm

torch = pytest.importorskip("torch")
from convexnn.quadratic.torch_worst import quadratic_of_weights, worst_case  # noqa: E402


def problem(rng: np.random.Generator, n: int, d: int) -> tuple[QuadraticForm, np.ndarray, np.ndarray]:
    A = rng.standard_normal((d, d))
    form = QuadraticForm((A + A.T) / np.sqrt(d), rng.standard_normal(d), 0.3)
    return form, rng.standard_normal((n, d)), np.where(rng.random(n) < 0.5, 1.0, -1.0)


def tensors(form: QuadraticForm, dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, ...]:
    return tuple(torch.tensor(np.array(part), dtype=dtype) for part in (form.Q, form.q, form.h))


@pytest.mark.parametrize("radius", [0.0, 1e-6, 0.4, 50.0])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-4)])
@pytest.mark.parametrize("d", [1, 7])
def test_torch_and_numpy_agree(
    d: int, dtype: torch.dtype, tolerance: float, radius: float, rng: np.random.Generator
) -> None:
    form, X, s = problem(rng, 60, d)
    expected, _ = form.worst_case(X, s, radius)
    values, points = worst_case(
        tensors(form, dtype), torch.tensor(X, dtype=dtype), torch.tensor(s, dtype=dtype), radius
    )
    assert values.dtype == dtype
    size = 1.0 + np.abs(expected)
    assert (np.abs(values.numpy() - expected) <= tolerance * size).all()
    assert (np.linalg.norm(points.numpy() - X, axis=1) <= radius * (1 + 1e-5) + 1e-6).all()


def test_hard_cases_agree(rng: np.random.Generator) -> None:
    # g has no part in the lowest eigenspace: Q diagonal, the last curvature the lowest, q and x zero there.
    form = QuadraticForm(np.diag([1.0, 0.5, -2.0]), [0.1, 0.2, 0.0], 0.0)
    X = np.c_[0.1 * rng.standard_normal((5, 2)), np.zeros(5)]
    for forms in (form, QuadraticForm(np.zeros((3, 3)), np.zeros(3), 1.0), QuadraticForm(-np.eye(3), np.zeros(3), 0.0)):
        expected, _ = forms.worst_case(X, 1.0, 1.5)
        values, _ = worst_case(tensors(forms), torch.tensor(X), torch.ones(5, dtype=torch.float64), 1.5)
        np.testing.assert_allclose(values.numpy(), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.slow
def test_gradients_are_those_of_finite_differences(rng: np.random.Generator) -> None:
    form, X, s = problem(rng, 4, 3)
    signs = torch.tensor(s)
    inputs = [*tensors(form), torch.tensor(X), torch.tensor(rng.uniform(0.2, 1.0, 4))]
    for tensor in inputs:
        tensor.requires_grad_()

    def values(Q, q, h, X, radius):
        return worst_case((Q, q, h), X, signs, radius)[0]

    assert torch.autograd.gradcheck(values, inputs, eps=1e-6, atol=1e-6)


def test_training_the_weights_through_the_worst_case(rng: np.random.Generator) -> None:
    W, b, v, c = rng.standard_normal((4, 3)), rng.standard_normal(4), rng.standard_normal(4), rng.standard_normal()
    weights = [torch.tensor(part, dtype=torch.float64, requires_grad=True) for part in (W, b, v, c)]
    X, s = torch.tensor(rng.standard_normal((6, 3))), torch.ones(6, dtype=torch.float64)
    values, _ = worst_case(quadratic_of_weights(*weights), X, s, 0.3)
    network = Network.shallow(W, b, v, c, Polynomial())
    expected, _ = QuadraticForm.of_network(network).worst_case(X.numpy(), 1.0, 0.3)
    np.testing.assert_allclose(values.detach().numpy(), expected, rtol=1e-11, atol=1e-12)

    values.sum().backward()
    directions = [rng.standard_normal(np.shape(part)) for part in (W, b, v, c)]
    slope = sum(float((w.grad.numpy() * t).sum()) for w, t in zip(weights, directions, strict=True))

    def total(step: float) -> float:
        moved = [part + step * t for part, t in zip((W, b, v, c), directions, strict=True)]
        form = QuadraticForm.of_network(Network.shallow(*moved, Polynomial()))
        return float(form.worst_case(X.numpy(), 1.0, 0.3)[0].sum())

    assert abs((total(1e-6) - total(-1e-6)) / 2e-6 - slope) <= 1e-6 * (1 + abs(slope))


def test_bad_shapes_are_refused(rng: np.random.Generator) -> None:
    form, X, s = problem(rng, 4, 3)
    with pytest.raises(InvalidInputError, match="Shapes"):
        worst_case(tensors(form), torch.tensor(X[:, :2]), torch.tensor(s), 0.1)
    with pytest.raises(InvalidInputError, match="negative"):
        worst_case(tensors(form), torch.tensor(X), torch.tensor(s), -0.1)
