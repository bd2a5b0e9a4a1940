"""The reproduction script in its quick form: it runs, resumes, and keeps its promises."""

import importlib.util
import json
import sys

import numpy as np
import pytest

from tests._shared import ROOT


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location(
        "reproduce_lipschitz_paper", ROOT / "examples" / "reproduce_lipschitz_paper.py"
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.mark.slow
def test_quick_run_resumes_and_nothing_is_worse_than_its_start(script, tmp_path, capsys, monkeypatch):
    arguments = ["--quick", "--datasets", "rastrigin", "--trials", "1", "--output", str(tmp_path)]
    assert script.main(arguments) == 0
    text = capsys.readouterr().out
    stored = json.loads((tmp_path / "rastrigin_0.json").read_text())
    values = dict(stored["values"])
    for after, before in [
        ("C-l2", "SGD"),
        ("C-lip", "ADMM"),
        ("joint", "C-lip"),
        ("LipGrad + joint", "LipGrad"),
        ("original + joint", "original"),
    ]:
        assert values[after] <= values[before] * (1 + 2e-6)
    assert max(stored["gaps"].values()) <= 1e-6
    figure = stored["figure"]
    curves = np.column_stack([figure["clean"], figure["attacked"]])
    assert (np.diff(curves, axis=1) >= 0).all()
    assert (np.array(figure["attacked"]) <= np.array(figure["certified"])).all()
    assert "of 1 trials" in text
    assert (tmp_path / "figure1.png").stat().st_size > 10_000

    # a trial that is there is read, not run again
    ran = []
    honest = json.loads((tmp_path / "rastrigin_0.json").read_text())
    monkeypatch.setattr(script.Trial, "run", lambda trial: ran.append(trial.settings) or honest)
    stored["values"]["joint"] = 0.0
    (tmp_path / "rastrigin_0.json").write_text(json.dumps(stored))
    script.main(arguments)
    assert json.loads((tmp_path / "rastrigin_0.json").read_text())["values"]["joint"] == 0.0
    assert not ran
    # one with other settings is not
    stored["settings"]["units"] = 11
    (tmp_path / "rastrigin_0.json").write_text(json.dumps(stored))
    script.main(arguments)
    assert json.loads((tmp_path / "rastrigin_0.json").read_text())["values"]["joint"] == values["joint"]
    assert ran == [script.QUICK]


def test_sampled_patterns_come_with_both_signs(script, rng):
    from convexnn import Network, extract

    network = Network.shallow(rng.standard_normal((8, 2)), rng.standard_normal(8), rng.standard_normal(8), 0.5)
    sampled = script.doubled_sample(network, rng)
    X = rng.standard_normal((20, 2))
    assert sampled.n_hidden == (8,)
    np.testing.assert_allclose(sampled(X), 0.5)  # the two signs cancel
    patterns = extract(sampled, X)
    assert (patterns.D[:, :4] == patterns.D[:, 4:]).all()
    assert (patterns.s[:4] == 1).all()
    assert (patterns.s[4:] == -1).all()


def test_reductions_are_taken_against_their_own_start(script):
    values = {"SGD": 2.0, "Adam": 4.0, "ADMM": 1.0, "LipGrad": 0.5, "original": 8.0}
    values |= {"C-l2": 1.0, "Adam start, C-l2": 1.0, "joint": 0.9, "LipGrad + joint": 0.25, "original + joint": 2.0}
    expected = {"C-l2": 50, "Adam start, C-l2": 75, "joint": 10, "LipGrad + joint": 50, "original + joint": 75}
    for method, percent in expected.items():
        assert script.reductions([{"values": values}], method) == pytest.approx([percent])
