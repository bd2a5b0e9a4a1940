"""ActivationPatternTransformer: the gated inputs of a ReLU network as features for any linear model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array
from sklearn.base import TransformerMixin
from sklearn.utils.validation import _check_feature_names_in, check_is_fitted, validate_data

from convexnn.activations import LeakyReLU, ReLU
from convexnn.estimators.cloning import KeepsTrainedModel
from convexnn.estimators.gated_network import GatedNetwork, gated_network_of
from convexnn.exceptions import InvalidInputError, UnsupportedModelError
from convexnn.network import Network, as_network
from convexnn.patterns import ActivationPatterns, sample_gates
from convexnn.patterns.rows import distinct
from convexnn.patterns.sample import Kind
from convexnn.training.data import refuse_overflow

if TYPE_CHECKING:
    from typing import Self

Array = NDArray[np.float64]

FEATURES = ("gated", "patterns")


class ActivationPatternTransformer(TransformerMixin, KeepsTrainedModel):
    r"""Features ``1[w_i'x + b_i >= 0] (x, 1)`` of fixed gates ``(w_i, b_i)``, one block a gate.

    A linear model on these features is a gated ReLU network: ``f(x) = c + sum_i 1[w_i'x + b_i >= 0] (x, 1)'u_i``, with
    the coefficients ``u_i`` in the order of the features. So ``Ridge`` on them solves the gated program with
    ``sum_i |u_i|^2``, ``Lasso`` that with ``sum_i |u_i|_1``, and a group lasso with one group a gate is
    :class:`~convexnn.restrictions.GatedGroupLasso`. :meth:`gated_network` and :meth:`to_network` turn the fitted model
    back into a network.

    Parameters
    ----------
    n_gates : int, default=100
        Random gates with distinct patterns on the data that ``fit`` sees; fewer where the data has fewer patterns.
    model : Network, torch.nn.Module, fitted MLP or fitted estimator, optional
        Takes the gates from the first hidden layer of a ReLU network; ``n_gates`` and ``random_state`` have no say.
    features : {"gated", "patterns"}, default="gated"
        ``"patterns"``: only the 0/1 values ``1[w_i'x + b_i >= 0]``.
    bias : bool, default=True
        Whether a gated block ends with the pattern itself, the bias of ``u_i``.
    kind : {"gaussian", "data"}, default="gaussian"
        How random gates are drawn; see :func:`convexnn.patterns.sample`.
    sparse_output : bool, default=False
        Return a ``scipy.sparse.csr_array`` instead of a dense array; about half of the entries are zero.
    random_state : int, RandomState, Generator or None, default=None
        Seed; an integer makes fits repeatable.

    Attributes
    ----------
    gates_ : array, shape (p, d)
    biases_ : array, shape (p,)
        Gates in raw input units.
    n_gates_ : int
        Their number p.
    n_features_in_ : int
    feature_names_in_ : array of str

    Notes
    -----
    Random gates depend on the set of rows, not on their order or repetition, and not on the units of the features.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.linear_model import Ridge
    >>> from sklearn.pipeline import make_pipeline
    >>> from convexnn import ActivationPatternTransformer
    >>> X = np.linspace(-1, 1, 50)[:, None]
    >>> model = make_pipeline(ActivationPatternTransformer(8, random_state=0), Ridge(1e-3)).fit(X, np.abs(X[:, 0]))
    >>> network = model[0].to_network(model[1], X)  # a ReLU network with the same outputs on the rows of X
    >>> bool(np.allclose(network(X), model.predict(X)))
    True
    """

    _trained_parameter = "model"

    def __init__(
        self,
        n_gates: int = 100,
        *,
        model: Any = None,
        features: str = "gated",
        bias: bool = True,
        kind: Kind = "gaussian",
        sparse_output: bool = False,
        random_state: Any = None,
    ) -> None:
        self.n_gates = n_gates
        self.model = model
        self.features = features
        self.bias = bias
        self.kind = kind
        self.sparse_output = sparse_output
        self.random_state = random_state

    def fit(self, X: ArrayLike, y: Any = None) -> Self:  # noqa: ARG002  (scikit-learn hands it over)
        """Choose the gates.

        Parameters
        ----------
        X : array-like, shape (n, d)
        y : ignored

        Returns
        -------
        self
        """
        if self.features not in FEATURES:
            raise InvalidInputError(f"features must be one of {FEATURES}, got {self.features!r}.")
        inputs = validate_data(self, X, dtype=np.float64)
        refuse_overflow(inputs, "X")
        if self.model is None:
            gates = sample_gates(inputs, self.n_gates, kind=self.kind, random_state=self.random_state)
        else:
            gates = _gates_of(self.model, inputs.shape[1])
        self.gates_, self.biases_ = gates
        self.n_gates_ = len(self.biases_)
        return self

    def transform(self, X: ArrayLike) -> Array | csr_array:
        """Features of rows.

        Parameters
        ----------
        X : array-like, shape (n, d)

        Returns
        -------
        array or csr_array, shape (n, p (d + 1)), (n, p d) without bias, (n, p) for patterns
            float64; block i holds the inputs where gate i is active and zeros elsewhere.
        """
        check_is_fitted(self)
        inputs: Array = validate_data(self, X, reset=False, dtype=np.float64)
        refuse_overflow(inputs, "X")
        D = self._active(inputs)
        block = inputs
        if self.features == "patterns":
            block = np.ones((len(inputs), 1))
        elif self.bias:
            block = np.hstack([inputs, np.ones((len(inputs), 1))])
        if self.sparse_output:
            return _sparse_blocks(D, block)
        return np.asarray((D[:, :, None] * block[:, None, :]).reshape(len(block), -1))

    def patterns(self, X: ArrayLike) -> ActivationPatterns:
        """Patterns of the gates on rows of X, for the programs of :mod:`convexnn.restrictions`."""
        check_is_fitted(self)
        return ActivationPatterns(self._active(validate_data(self, X, reset=False, dtype=np.float64)))

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[Any]:
        """Names ``gate<i>:<feature>``, ``gate<i>:1`` for the bias, ``gate<i>`` for patterns."""
        check_is_fitted(self)
        names = _check_feature_names_in(self, input_features)
        if self.features == "patterns":
            return np.array([f"gate{i}" for i in range(self.n_gates_)], dtype=object)
        inner = [*names, "1"] if self.bias else list(names)
        return np.array([f"gate{i}:{name}" for i in range(self.n_gates_) for name in inner], dtype=object)

    # -- back to networks ---------------------------------------------------------------------------
    def gated_network(self, linear_model: Any) -> GatedNetwork:
        """The gated network that a fitted linear model on these features is, for all inputs.

        Parameters
        ----------
        linear_model : fitted model with ``coef_`` and ``intercept_``
            Of scikit-learn or alike, on what :meth:`transform` returned, without a scaler in between.
        """
        check_is_fitted(self)
        if self.features != "gated":
            raise InvalidInputError(
                "features='patterns' makes a linear model a sum of steps, which is no gated or ReLU network; use "
                "features='gated'."
            )
        return gated_network_of(linear_model, self.gates_, self.biases_, bool(self.bias))

    def to_network(self, linear_model: Any, X: ArrayLike) -> Network:
        """ReLU network with the outputs of a fitted linear model on the rows of X.

        One unit a gate where the coefficients lie in the cone of the gate on X, two elsewhere
        (:meth:`GatedNetwork.outside <convexnn.estimators.gated_network.GatedNetwork.outside>` tells where). On other
        inputs the network and the model differ.

        Parameters
        ----------
        linear_model : fitted model with ``coef_`` and ``intercept_``
        X : array-like, shape (n, d)
            Usually the training rows.
        """
        return self.gated_network(linear_model).to_relu(validate_data(self, X, reset=False, dtype=np.float64))

    def _active(self, X: Array) -> NDArray[np.bool_]:
        """Patterns of the gates, shape (n, p); equal rows have equal ones."""
        rows, inverse = distinct(X)
        return np.asarray((rows @ self.gates_.T + self.biases_ >= 0)[inverse])

    @property
    def _n_features_out(self) -> int:
        width = 1 if self.features == "patterns" else self.n_features_in_ + bool(self.bias)
        return int(self.n_gates_ * width)


def _gates_of(model: Any, n_inputs: int) -> tuple[Array, Array]:
    network = as_network(model)
    if not isinstance(network.activation, (ReLU, LeakyReLU)):
        raise UnsupportedModelError(f"Gates need ReLU or LeakyReLU units, not {network.activation.name!r}.")
    if network.n_inputs != n_inputs:
        raise InvalidInputError(f"model has {network.n_inputs} inputs, X has {n_inputs} features.")
    W, b = network.layers[0]
    return np.array(W), np.array(b)


def _sparse_blocks(D: NDArray[np.bool_], block: Array) -> csr_array:
    """Blocks of the active gates only, as rows of a sparse matrix."""
    width = block.shape[1]
    rows, gates = np.nonzero(D)
    ends = np.r_[0, np.cumsum(D.sum(axis=1)) * width]
    columns = (gates[:, None] * width + np.arange(width)).ravel()
    return csr_array((block[rows].ravel(), columns, ends), shape=(len(D), D.shape[1] * width))
