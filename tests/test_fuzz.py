"""Public functions and estimators on data as users have them: a sound result or a clear sentence, nothing else.

The quick profile takes one call of each kind of reader; the slow one takes all of them, and draws vices at random.
"""

from __future__ import annotations

import warnings
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from convexnn import CertificateError, L2Ball, LInfBall, Network, certify, lipschitz, region_bound
from tests._fuzz import CALLS, HARD, REFUSED, REFUSED_TARGETS, SAME, judge, plain

QUICK = ("sample", "transformer", "regressor l2")
SLOW = [name for name in CALLS if name not in QUICK]
each_quick = pytest.mark.parametrize("name", QUICK)
each_slow = pytest.mark.parametrize("name", SLOW)


def judged(name, X, y):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # solvers and trainers say what is degenerate
        return judge(CALLS[name], X, y)[0]


def not_refused(name, changes):
    """Vices that a function takes, or refuses in words that say nothing."""
    found = {vice: judged(name, *change(*plain())) for vice, change in changes.items()}
    return {vice: verdict or "taken" for vice, verdict in found.items() if not verdict.startswith("refused")}


def sound(name, X, y):
    """A complaint about a call, unless it is a refusal in a sentence."""
    verdict = judged(name, X, y)
    return "" if verdict.startswith("refused") else verdict


def refusals(name):
    return REFUSED | (REFUSED_TARGETS if CALLS[name].uses_y else {})


@each_quick
def test_unusable_data_are_refused_in_a_sentence(name):
    pytest.importorskip("pandas")
    assert not not_refused(name, refusals(name))


@pytest.mark.slow
@each_slow
def test_unusable_data_are_refused_everywhere(name):
    assert not not_refused(name, refusals(name))


def same_result(name):
    expected = judge(CALLS[name], *plain())[1]
    for layout, change in SAME.items():
        verdict, found = judge(CALLS[name], *change(*plain()))
        assert not verdict, layout
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-9, err_msg=layout)


@each_quick
def test_layout_and_type_do_not_matter(name):
    same_result(name)


@pytest.mark.slow
@each_slow
def test_layout_and_type_do_not_matter_anywhere(name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        same_result(name)


@pytest.mark.parametrize("name", ["sample", "attack"])
@pytest.mark.parametrize("vice", HARD)
def test_hard_data_give_a_sound_result_or_a_sentence(name, vice):
    assert not sound(name, *HARD[vice](*plain()))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["group lasso", "lipschitz program", "regressor l2", "path", "certify", "distance"])
def test_hard_data_in_programs(name):
    wrong = {vice: sound(name, *change(*plain())) for vice, change in HARD.items()}
    assert not {vice: verdict for vice, verdict in wrong.items() if verdict}


@pytest.mark.slow
@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    name=st.sampled_from(["extract", "sample", "group lasso", "transformer", "attack", "lam_max", "refine", "certify"]),
    vices=st.lists(st.sampled_from(sorted(HARD)), min_size=1, max_size=3),
    layout=st.sampled_from(sorted(SAME)),
    seed=st.integers(0, 2**16),
    n=st.integers(3, 9).map(lambda third: 3 * third),
)
def test_vices_together(name, vices, layout, seed, n):
    X, y = plain(seed, n)
    for vice in vices:
        if X.shape[1] == 2 and len(X) >= 3:
            with np.errstate(all="ignore"):
                X, y = HARD[vice](X, y)
    if np.isfinite(np.asarray(X, dtype=float)).all() and np.asarray(X).dtype == float:
        X, y = SAME[layout](X, y)
    assert not sound(name, X, y)


def refused_as_certificate(check):
    """Whether a check refuses; arrays that it never reads may hold anything. Other errors leave."""
    try:
        check()
    except CertificateError:
        return True
    return False


def in_words(multiplier):
    return {key: np.full(np.shape(value), "red") for key, value in multiplier.items()}


def test_certificates_of_words_are_refused():
    network = Network.shallow(np.eye(2), [0.1, 0.2], [1.0, -1.0], 0.3)
    X = np.array([[1.0, -0.5]])
    report = certify(network, X, [1], LInfBall(0.01), method="crown", keep_evidence=True)
    (local,) = report.certificates(network, X, [1])
    proofs = tuple(replace(proof, multiplier=in_words(proof.multiplier)) for proof in local.proofs)
    assert not local.proofs[0].multiplier or refused_as_certificate(
        lambda: replace(local, proofs=proofs).check(network)
    )
    for certificate in (lipschitz(network), region_bound(network, L2Ball(1.0))):
        words = replace(certificate, multiplier=in_words(certificate.multiplier))
        assert refused_as_certificate(partial(words.check, network))
