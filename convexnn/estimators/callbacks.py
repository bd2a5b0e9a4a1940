"""scikit-learn's callbacks around a fit, where the installed version has them: progress bars, scores after every stage.

``sklearn.callback`` (1.9 and later, experimental there) is imported when a callback is set, not before: it loads rich.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import copy
from functools import wraps
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, TypeVar

from sklearn.utils.metaestimators import available_if

if TYPE_CHECKING:
    from typing import Self

Fit = TypeVar("Fit", bound=Callable[..., Any])


def has_callbacks() -> bool:
    """Whether the installed scikit-learn has callbacks."""
    return find_spec("sklearn.callback") is not None


def _available(estimator: Any) -> bool:
    if not has_callbacks():
        raise AttributeError(f"{type(estimator).__name__}.set_callbacks needs scikit-learn 1.9 or later.")
    return True


class CallbackSupport:
    """Estimator whose ``fit`` tells callbacks about its stages."""

    @available_if(_available)  # type: ignore[untyped-decorator]
    def set_callbacks(self, *callbacks: Any) -> Self:
        """Set scikit-learn callbacks, such as ``sklearn.callback.ProgressBar()``; none removes them.

        A fit is one task with a subtask a stage (the start network, the convex programs, the global stage); callbacks
        of a Pipeline or a search are handed on to it.

        Parameters
        ----------
        *callbacks : instances following ``sklearn.callback.FitCallback``

        Returns
        -------
        self
        """
        from sklearn.callback import CallbackSupportMixin

        CallbackSupportMixin.set_callbacks(self, *callbacks)
        return self


class Stages:
    """Stages of one fit, told to the callbacks of an estimator; does nothing where there are none.

    Parameters
    ----------
    estimator : estimator
    data : dict
        ``X``, ``y`` and ``sample_weight`` as given to ``fit``.
    number : int
        Of stages; 0 makes the fit one task without subtasks.

    Attributes
    ----------
    stopped : bool
        Whether a callback asked to stop after a stage.
    """

    def __init__(self, estimator: Any, data: dict[str, Any], number: int = 0) -> None:
        self.estimator, self.context, self.stopped = estimator, None, False
        if not _observed(estimator):
            return
        from sklearn.callback import CallbackSupportMixin

        weight = data.pop("sample_weight", None)
        self._data = data | {"metadata": None if weight is None else {"sample_weight": weight}}
        self.context = CallbackSupportMixin._init_callback_context(estimator, max_subtasks=number)
        self.context.call_on_fit_task_begin(estimator=estimator, **self._data)

    @contextmanager
    def stage(self, name: str) -> Iterator[dict[str, Any]]:
        """A stage; fitted attributes written into the dictionary make a model for callbacks that score."""
        fitted: dict[str, Any] = {}
        if self.context is None:
            yield fitted
            return
        task = self.context.subcontext(task_name=name)
        task.call_on_fit_task_begin(estimator=self.estimator, **self._data)
        yield fitted
        told = {"reconstruction_attributes": fitted or None}
        self.stopped |= bool(task.call_on_fit_task_end(estimator=self.estimator, **self._data, **told))

    def end(self) -> None:
        """The fit is done, and the estimator is fitted."""
        if self.context is not None:
            self.context.call_on_fit_task_end(estimator=self.estimator, **self._data, reconstruction_attributes={})


def _observed(estimator: Any) -> bool:
    return hasattr(estimator, "_skl_callbacks") or hasattr(estimator, "_parent_callback_ctx")


def tells_callbacks(fit: Fit) -> Fit:
    """A ``fit`` whose callbacks are torn down at its end, whether it succeeds or not."""

    @wraps(fit)
    def observed(self: Any, *arguments: Any, **options: Any) -> Any:
        if not _observed(self):
            return fit(self, *arguments, **options)
        from sklearn.callback import with_callbacks

        return with_callbacks(fit)(self, *arguments, **options)

    return observed  # type: ignore[return-value]


def without_callbacks(estimator: Any) -> Any:
    """Shallow copy that workers may take: callbacks hear of stages, not of what runs within one."""
    plain = copy(estimator)
    for name in ("_skl_callbacks", "_parent_callback_ctx", "_callback_fit_ctx", "_skl_callbacks_to_teardown"):
        vars(plain).pop(name, None)
    return plain
