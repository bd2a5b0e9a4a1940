"""Class labels as the programs want them."""

import warnings

import numpy as np
import pytest
from sklearn.exceptions import DataConversionWarning

from convexnn.estimators.labels import class_weights, encode_known, encode_labels
from convexnn.exceptions import InvalidInputError


@pytest.mark.parametrize(
    "y",
    [["b", "a", "b", "c"], [2, 1, 2, 7], [0.0, -1.0, 0.0, 5.0], np.array(["b", "a", "b", "c"], dtype=object)],
    ids=["strings", "integers", "whole floats", "objects"],
)
def test_indices_give_the_labels_back(y):
    labels = encode_labels(y)
    np.testing.assert_array_equal(labels.classes[labels.indices], np.asarray(y))
    assert labels.classes.tolist() == sorted(set(y))
    assert labels.n_classes == 3
    assert not labels.is_binary
    np.testing.assert_array_equal(encode_known(y, labels.classes), labels.indices)


def test_two_classes_have_signs():
    labels = encode_labels([True, False, False])
    assert labels.is_binary
    np.testing.assert_array_equal(labels.signs, [1.0, -1.0, -1.0])
    with pytest.warns(DataConversionWarning):
        np.testing.assert_array_equal(encode_labels([[1], [0], [0]]).signs, labels.signs)


def test_rows_without_weight_are_left_out():
    labels = encode_labels(["a", "b", "c"], np.array([1.0, 2.0, 0.0]))
    assert labels.classes.tolist() == ["a", "b"]
    assert labels.indices[:2].tolist() == [0, 1]
    for y, weight in ((["a", "a"], None), (["a", "b"], np.array([1.0, 0.0]))):
        with pytest.raises(InvalidInputError, match="one class only"):
            encode_labels(y, weight)
    with pytest.raises(ValueError, match="continuous"):
        encode_labels([0.1, 0.2])
    with pytest.raises(InvalidInputError, match="'d'"):
        encode_known(["a", "d"], labels.classes)


def test_weights_of_classes():
    labels = encode_labels(["a", "b", "b", "c"])
    assert class_weights(None, labels, None) is None
    sample = np.array([1.0, 2.0, 3.0, 4.0])
    assert class_weights(None, labels, sample) is sample
    np.testing.assert_array_equal(class_weights({"b": 2.0, "c": 0.0}, labels, sample), [1.0, 4.0, 6.0, 0.0])
    balanced = class_weights("balanced", labels, sample)
    totals = np.bincount(labels.indices, balanced)
    np.testing.assert_allclose(totals, totals.mean())
    assert balanced.sum() == pytest.approx(sample.sum())
    # repeating a row is the same as weighing it
    repeated = encode_labels(["a", "b", "b", "b", "c"])
    once = class_weights("balanced", encode_labels(["a", "b", "c"]), np.array([1.0, 3.0, 1.0]))
    np.testing.assert_allclose(class_weights("balanced", repeated, None)[[0, 1, 4]], once / [1, 3, 1])


@pytest.mark.parametrize("bad", [{"z": 1.0}, {"a": -1.0}, {"a": np.nan}, {"a": "much"}, {"a": 0, "b": 0}, 3, "even"])
def test_unusable_class_weights_are_sentences(bad):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(InvalidInputError, match="class_weight"):
            class_weights(bad, encode_labels(["a", "b", "c"]), None)
