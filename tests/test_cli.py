"""The command line: what it writes, what it refuses, and with which exit code."""

from __future__ import annotations

import logging
import subprocess
import sys
import warnings

import numpy as np
import pytest

import convexnn
from convexnn.certificate import Certificate
from convexnn.certificates.lipschitz import lipschitz
from convexnn.cli import main
from convexnn.network import Network


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def network(rng):
    network = Network.shallow(rng.standard_normal((5, 2)), rng.standard_normal(5), rng.standard_normal(5))
    network.save("net.npz")
    return network


@pytest.fixture
def table(rng):
    X = rng.standard_normal((25, 2))
    y = np.abs(X[:, 0]) + 0.1 * rng.standard_normal(25)
    np.savetxt("data.csv", np.column_stack([X, y]), delimiter=",", header="u,v,target", comments="")
    return X, y


def error_of(capsys):
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("convexnn: ")
    return lines[0]


# -- the program ----------------------------------------------------------------------------------


def test_python_dash_m_prints_the_version():
    command = [sys.executable, "-m", "convexnn", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"convexnn {convexnn.__version__}"


@pytest.mark.parametrize("argv", [[], ["nonsense"], ["fit", "--lam", "much"], ["lipschitz"]])
def test_usage_errors_exit_with_two(argv, capsys):
    assert main(argv) == 2
    assert "usage:" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["demo", "fit", "refine", "lipschitz", "attack", "check", "solvers"])
def test_every_command_has_help(command, capsys):
    assert main([command, "--help"]) == 0
    assert command in capsys.readouterr().out


def test_solvers_lists_all_of_them(capsys):
    assert main(["solvers"]) == 0
    shown = capsys.readouterr().out
    assert all(info.name in shown for info in convexnn.available_solvers())


# -- lipschitz and check --------------------------------------------------------------------------


def test_lipschitz_prints_a_bracket_and_saves_a_certificate(network, capsys):
    assert main(["lipschitz", "net.npz", "--save", "cert.npz"]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if "<= L <=" in line)
    lower, upper = (float(part) for part in line.split("<= L <="))
    assert 0 < lower <= upper
    assert upper == pytest.approx(lipschitz(network).bound, rel=1e-7)
    assert main(["check", "cert.npz", "net.npz"]) == 0
    assert f"{Certificate.load('cert.npz').bound:.6g}" in capsys.readouterr().out


def test_the_product_bound_is_never_smaller(network, table, capsys):  # noqa: ARG001
    def upper(*options):
        assert main(["lipschitz", "net.npz", *options]) == 0
        return float(capsys.readouterr().out.split("<= L <=")[1].split()[0])

    assert upper("--near", "data.csv") <= upper("--method", "product")


def tampered(certificate, **changes):
    fields = {name: getattr(certificate, name) for name in certificate.__dataclass_fields__}
    Certificate(**{**fields, **changes}).save("cert.npz")


def test_a_tampered_certificate_is_refused(network, capsys):
    certificate = lipschitz(network)
    tampered(certificate, bound=0.5 * certificate.bound)
    assert main(["check", "cert.npz", "net.npz"]) == 1
    assert "not the claimed" in error_of(capsys)


def test_a_tampered_multiplier_is_refused(network, capsys):
    certificate = lipschitz(network)
    multiplier = {name: np.roll(values, 1) for name, values in certificate.multiplier.items()}
    tampered(certificate, multiplier=multiplier)
    assert main(["check", "cert.npz", "net.npz"]) == 1
    assert "not the claimed" in error_of(capsys)


def test_a_certificate_of_another_network_is_refused(network, capsys):
    lipschitz(network).save("cert.npz")
    Network.shallow(network.W, network.b, 1.0001 * network.v).save("other.npz")
    assert main(["check", "cert.npz", "other.npz"]) == 1
    assert "another network" in error_of(capsys)


def test_a_damaged_certificate_is_refused(network, capsys):
    path = lipschitz(network).save("cert.npz")
    path.write_bytes(path.read_bytes()[:100])
    assert main(["check", "cert.npz", "net.npz"]) == 1
    assert "Refused" in error_of(capsys)


def test_a_missing_file_is_named(network, capsys):  # noqa: ARG001
    assert main(["check", "nowhere.npz", "net.npz"]) == 2
    assert "nowhere.npz" in error_of(capsys)


# -- attack ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_attack_writes_a_table_in_order_and_a_picture(network, table, norm):
    options = ["--norm", norm, "--radius", "0.1", "0.5", "--steps", "5", "--restarts", "1"]
    assert main(["attack", "net.npz", "data.csv", *options, "--csv", "table.csv", "--plot", "curve.png"]) == 0
    with open("table.csv", encoding="utf-8") as file:
        rows = [line.strip().split(",") for line in file][1:]
    assert [row[1] for row in rows] == ["0.1", "0.5"]
    X, y = table
    for row in rows:
        clean, attacked, certified = map(float, row[2:5])
        assert clean == pytest.approx(np.mean((network(X) - y) ** 2))
        assert clean <= attacked <= certified
    with open("curve.png", "rb") as file:
        assert file.read(4) == b"\x89PNG"


def test_attack_refuses_data_that_do_not_fit(network, capsys):  # noqa: ARG001
    with open("wide.csv", "w", encoding="utf-8") as file:
        file.write("1,2,3,4\n5,6,7,8\n")
    assert main(["attack", "net.npz", "wide.csv"]) == 2
    assert "3 features beside the target, the network takes 2" in error_of(capsys)


def test_attack_refuses_a_negative_radius(network, table, capsys):  # noqa: ARG001
    assert main(["attack", "net.npz", "data.csv", "--radius", "-1"]) == 2
    assert "nonnegative" in error_of(capsys)


def test_an_unknown_picture_format_is_a_sentence(network, table, capsys):  # noqa: ARG001
    assert main(["attack", "net.npz", "data.csv", "--steps", "1", "--plot", "curve.xyz"]) == 2
    assert "curve.xyz" in error_of(capsys)


# -- data -----------------------------------------------------------------------------------------

BAD_FILES = {
    "empty": ("", "empty"),
    "only a header": ("a,b,c\n", "no rows"),
    "one column": ("a\n1\n2\n", "one column"),
    "word": ("a,b,c\n1,2,3\n4,red,6\n", "line 3: 'b' is 'red'"),
    "missing": ("a,b,c\n1,2,3\n4,,6\n", "line 3: 'b' is missing"),
    "nan": ("1,2,3\n4,nan,6\n", "finite number"),
    "ragged": ("a,b,c\n1,2,3\n4,5\n", "line 3: expected 3 values, got 2"),
    "header ends late": ("a,b\n1,2,3\n", "expected 2 values, got 3"),
}


@pytest.mark.parametrize(("content", "sentence"), BAD_FILES.values(), ids=BAD_FILES)
def test_bad_files_are_named_by_line_and_column(content, sentence, capsys):
    with open("bad.csv", "w", encoding="utf-8") as file:
        file.write(content)
    assert main(["fit", "bad.csv"]) == 2
    assert sentence in error_of(capsys)


def test_bytes_that_are_no_text_are_refused(capsys):
    with open("bad.csv", "wb") as file:
        file.write(b"\xff\xfe\x00\x01,\x99")
    assert main(["fit", "bad.csv"]) == 2
    assert "UTF-8" in error_of(capsys)


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["fit"], "--data diabetes"),
        (["fit", "data.csv", "--data", "diabetes"], "either"),
        (["fit", "data.csv", "--target", "w"], "columns are u, v, target"),
        (["fit", "data.csv", "--solver", "gurobi"], "unknown"),
        (["fit", "data.csv", "--lam", "-1"], "lam"),
        (["fit", "data.csv", "--hidden-units", "0"], "hidden_units"),
        (["fit", "data.csv", "--report", "report.doc"], ".md"),
        (["fit", "data.csv", "--output", "no/where/net.npz"], "folder"),
        (["fit", "data.csv", "--test-size", "1.5"], "--test-size"),
        (["fit", "."], "cannot be used"),
    ],
)
def test_unusable_arguments_are_refused_before_any_work(table, argv, sentence, capsys):  # noqa: ARG001
    assert main(argv) == 2
    assert sentence in error_of(capsys)


def test_separators_headers_targets_and_npz_give_the_same_data(table):
    from convexnn.cli.data import load_data

    X, y = table
    values = np.column_stack([y, X])
    np.savetxt("semicolon.csv", values, delimiter=";")
    np.savetxt("tab.csv", values, delimiter="\t", header="y\tu\tv", comments="\ufeff", encoding="utf-8")
    np.savez("data.npz", X=X, y=y)
    for source in (
        load_data("data.csv"),
        load_data("data.csv", target="target"),
        load_data("data.csv", target="3"),
        load_data("semicolon.csv", target="1"),
        load_data("tab.csv", target="y"),
        load_data("data.npz"),
    ):
        np.testing.assert_allclose(source.X, X)
        np.testing.assert_allclose(source.y, y)


@pytest.mark.parametrize("arrays", [{"X": np.zeros((3, 2))}, {"X": np.zeros(3), "y": np.zeros(3)}])
def test_npz_without_the_right_arrays_is_refused(arrays, capsys):
    np.savez("data.npz", **arrays)
    assert main(["fit", "data.npz"]) == 2
    assert "data.npz" in error_of(capsys)


def test_npz_with_pickles_is_refused(capsys):
    np.savez("data.npz", X=np.array([[None]]), y=np.zeros(1))
    assert main(["fit", "data.npz"]) == 2
    assert "data.npz" in error_of(capsys)


# -- fit and refine -------------------------------------------------------------------------------


def test_fit_writes_a_network_whose_certificate_checks(table, capsys):
    options = ["--hidden-units", "4", "--lam", "0.05", "--standardize", "--test-size", "0.2"]
    assert main(["fit", "data.csv", *options, "--certificate", "cert.npz", "--report", "report.md"]) == 0
    shown = capsys.readouterr().out
    assert "verified relative gap" in shown
    assert "standard deviations of the inputs" in shown
    assert "No rows were held out" not in shown
    assert main(["check", "cert.npz", "network.npz"]) == 0
    X, y = table
    network = Network.load("network.npz")
    assert np.mean((network(X) - y) ** 2) < np.var(y)
    with open("report.md", encoding="utf-8") as file:
        assert "| fitted |" in file.read()


def test_refine_is_never_worse(network, table, capsys):
    X, y = table
    argv = ["refine", "net.npz", "data.csv", "--lam", "0.1", "--output", "better.npz", "--certificate", "cert.npz"]
    assert main([*argv, "--report", "report.csv"]) == 0
    capsys.readouterr()

    def objective(f):
        return np.mean((f(X) - y) ** 2) + 0.1 * lipschitz(f).bound ** 2

    better = Network.load("better.npz")
    assert objective(better) <= objective(network)
    assert main(["check", "cert.npz", "better.npz"]) == 0
    with open("report.csv", encoding="utf-8") as file:
        assert [line.split(",")[0] for line in file] == ["stage", "before", "after"]


def test_verbose_shows_iterations_on_stderr_and_leaves_the_logger_alone(network, table, capsys):  # noqa: ARG001
    logger = logging.getLogger("convexnn")
    before = (logger.level, list(logger.handlers))
    assert main(["refine", "net.npz", "data.csv", "--lam", "0.1", "--verbose"]) == 0
    shown = capsys.readouterr()
    assert "gap" in shown.err
    assert (logger.level, list(logger.handlers)) == before
    assert main(["refine", "net.npz", "data.csv", "--lam", "0.1"]) == 0
    quiet = capsys.readouterr()
    assert not quiet.err
    assert [line for line in quiet.out.splitlines() if "objective:" in line] == [
        line for line in shown.out.splitlines() if "objective:" in line
    ]


def test_an_unlicensed_solver_is_one_sentence(table, capsys):  # noqa: ARG001
    if convexnn.available_solvers()["mosek"].usable:
        pytest.skip("MOSEK has a license here")
    assert main(["fit", "data.csv", "--solver", "mosek", "--hidden-units", "3"]) == 1
    assert "mosek" in error_of(capsys).lower()


def test_warnings_are_one_line_without_a_place_in_the_code(capsys):
    from convexnn.cli.output import Output

    output = Output()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = output.warn
        warnings.warn("convexnn: the time is up.", UserWarning, stacklevel=1)
    assert capsys.readouterr().err == "warning: the time is up.\n"


# -- demo -----------------------------------------------------------------------------------------


def demo(capsys):
    code = main(["demo", "--quick", "--output", "out"])
    return code, capsys.readouterr()


@pytest.mark.slow
def test_the_demo_runs_end_to_end(tmp_path, capsys):
    code, shown = demo(capsys)
    assert code == 0
    assert not shown.err
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"certificate.npz", "network.npz", "patterns.png", "robustness.png", "table.csv", "table.md"}
    with open("out/table.csv", encoding="utf-8") as file:
        header, *rows = [line.strip().split(",") for line in file]
    assert [row[0] for row in rows] == ["pretrained", "l2 convex", "alternating", "joint"]
    objective = {row[0]: float(row[header.index("objective Lipschitz")]) for row in rows}
    assert objective["joint"] <= objective["alternating"] + 1e-6 <= objective["pretrained"] + 2e-6
    objective_l2 = {row[0]: float(row[header.index("objective l2")]) for row in rows}
    assert objective_l2["l2 convex"] <= objective_l2["pretrained"]
    assert float(rows[-1][header.index("verified gap")]) <= 1e-6
    assert "Checked again from disk" in shown.out
    assert all(
        word in shown.out for word in ("standardized", "lower bound", "real-valued", "these activation patterns")
    )
    assert main(["check", "out/certificate.npz", "out/network.npz"]) == 0


@pytest.mark.slow
def test_an_interrupted_demo_reports_what_is_finished(monkeypatch, capsys):
    def interrupted(*_args, **_options):
        raise KeyboardInterrupt

    monkeypatch.setattr("convexnn.cli.demo.alternating_minimization", interrupted)
    code, shown = demo(capsys)
    assert code == 130
    assert "Interrupted" in shown.err
    with open("out/table.csv", encoding="utf-8") as file:
        assert [line.split(",")[0] for line in file] == ["stage", "pretrained", "l2 convex"]
    assert main(["check", "out/certificate.npz", "out/network.npz"]) == 0


def test_a_demo_interrupted_at_once_ends_without_traceback(monkeypatch, capsys):
    def interrupted(*_args, **_options):
        raise KeyboardInterrupt

    monkeypatch.setattr("convexnn.cli.demo.pretrain", interrupted)
    code, shown = demo(capsys)
    assert code == 130
    assert "Interrupted." in shown.err
