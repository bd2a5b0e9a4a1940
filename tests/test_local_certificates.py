"""Certificates about one sample: what comes back from a file is what was proved; what was changed is refused."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest

from convexnn.archive import read_archive, write_archive
from convexnn.certificate import FORMAT, Certificate
from convexnn.certificates.lipschitz import lipschitz
from convexnn.cli import main
from convexnn.exceptions import CertificateError, InvalidInputError
from convexnn.network import Network
from convexnn.propagation import Effort, InputSet, Query
from convexnn.threats import Box, L2Ball, LInfBall
from convexnn.verification import certify as run_certify
from convexnn.verification.certificate_files import VERSION, digest, load_certificate
from convexnn.verification.certificates import About, LocalCertificate, Proof, certificate_of, save_certificates
from convexnn.verification.combined import combine
from convexnn.verification.exact_numbers import rationals
from convexnn.verification.registry import get_certifier
from tests.certifier_cases import exact_row_values, inside, random_network

THREATS = [L2Ball(0.3), L2Ball(0.3, (0.0, 1.0)), LInfBall(0.1), LInfBall(0.1, (0.0, 1.0)), Box(0.1, 0.8), L2Ball(0.0)]
each_threat = pytest.mark.parametrize("threat", THREATS, ids=repr)


@pytest.fixture
def network(rng) -> Network:
    return random_network(rng, (4, 6, 5, 3), "leaky_relu")


def certify(network: Network, threat, *, label: int = 1, exact: bool = False, method: str = "lp") -> LocalCertificate:
    x = np.full(network.n_inputs, 0.45)
    query = Query.of_rivals(network, x, label, threat)
    evidence = get_certifier(method).propose(query, Effort(), None)
    return certificate_of(query, evidence, about=About(7, label, x, threat), exact=exact, details={"by": "a test"})


@each_threat
@pytest.mark.parametrize("exact", [False, True], ids=["float", "exact"])
def test_what_is_saved_comes_back_and_holds(threat, exact, network, rng, tmp_path) -> None:
    certificate = certify(network, threat, exact=exact)
    path = certificate.save(tmp_path / "claim.npz")
    back = load_certificate(path)
    assert isinstance(back, LocalCertificate)
    assert (back.inputs, back.about.label, back.methods) == (certificate.inputs, 1, ("lp",))
    proved = back.check(network)
    assert (proved <= certificate.bounds).all()
    assert (back.check(network, exact=True) <= proved).all()
    query = back.query(network)
    for z in rng.uniform(-1, 2, (20, 4)):
        x = inside(query, z)
        if x is not None:
            assert (rationals(proved) >= exact_row_values(query, x)).all()
    words = str(back)
    assert "number 7, as claimed" in words
    assert "f_0(x) - f_1(x) <= " in words
    assert pickle.loads(pickle.dumps(back)) == back
    assert back == certificate or threat.norm == "box"  # a box comes back with its corners written out
    again = back.save(tmp_path / "again.npz")
    assert (
        read_archive(again, format=FORMAT, version=VERSION)[0]["digest"]
        == read_archive(path, format=FORMAT, version=VERSION)[0]["digest"]
    )


def contents(certificate: LocalCertificate, tmp_path):
    return read_archive(certificate.save(tmp_path / "claim.npz"), format=FORMAT, version=VERSION)


def rewrite(tmp_path, header, arrays, *, honest: bool):
    """A file with these contents; its digest fits when the forger is careful."""
    plain = {key: value for key, value in header.items() if key != "digest"}
    mark = digest(plain, arrays) if honest else header["digest"]
    return write_archive(tmp_path / "forged.npz", {**plain, "digest": mark}, arrays)


def other_values(value):
    """Values of a header field that differ from this one."""
    if isinstance(value, bool) or value is None:
        return [1, "x"]
    if isinstance(value, int):
        return [value + 1, -1]
    return [[*value, "ibp"], []] if isinstance(value, list) else [{"by": "x"}] if isinstance(value, dict) else ["0.9"]


def test_every_changed_field_is_noticed(network, tmp_path) -> None:
    header, arrays = contents(certify(network, L2Ball(0.3, (0.0, 1.0))), tmp_path)
    for key in header:
        for value in other_values(header[key]):
            with pytest.raises(InvalidInputError):
                load_certificate(rewrite(tmp_path, {**header, key: value}, arrays, honest=False))
        missing = {name: value for name, value in header.items() if name != key}
        with pytest.raises(InvalidInputError):
            load_certificate(write_archive(tmp_path / "forged.npz", missing, arrays))
    for name, values in arrays.items():
        for changed in ({**arrays, name: values + 1}, {n: v for n, v in arrays.items() if n != name}):
            with pytest.raises(InvalidInputError):
                load_certificate(rewrite(tmp_path, header, changed, honest=False))
    with pytest.raises(InvalidInputError, match="altered"):
        load_certificate(rewrite(tmp_path, header, {**arrays, "more": np.ones(2)}, honest=False))


def attempts(rng, name: str, values: np.ndarray):
    """Careful forgeries of an array: other numbers, other shapes, other types, nothing."""
    yield from (values * 2, -values, values * np.nan, values[None], values * 1e300, values.astype(str), np.ones(3000))
    yield from (values - 0.25, np.zeros(0), rng.permutation(values.ravel()))
    if values.ndim:
        yield from (values[..., :-1], np.concatenate([values, values]))
    if values.dtype.kind == "i":
        yield from (values + 1, values + 10**9, -values - 1)


def test_a_careful_forger_proves_nothing_more(network, rng, tmp_path) -> None:
    """With a digest that fits, a changed file is refused, or its claim is still true of its own statement."""
    certificate = certify(network, L2Ball(0.3, (0.0, 1.0)))
    header, arrays = contents(certificate, tmp_path)
    refused = accepted = 0
    for name, values in arrays.items():
        for forged in [None, *attempts(rng, name, values)]:
            changed = {key: value for key, value in arrays.items() if key != name}
            if forged is not None:
                changed[name] = forged
            try:
                back = load_certificate(rewrite(tmp_path, header, changed, honest=True))
                proved = back.check(network)
            except (CertificateError, InvalidInputError):
                refused += 1
                continue
            accepted += 1
            assert_true(back, proved, network, rng)
    assert refused > accepted > 0  # other multipliers may prove as much, other clips may state less


def assert_true(certificate: LocalCertificate, proved, network: Network, rng) -> None:
    query = certificate.query(network)
    assert (proved <= certificate.bounds).all()
    for z in query.inputs.centre + rng.standard_normal((5, network.n_inputs)):
        x = inside(query, z)
        if x is not None:
            assert (query.values(x[None])[0] <= proved + 1e-9 * (1 + np.abs(proved))).all()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"label": 0}, "not the margins of the rivals"),
        ({"label": 9}, "no class 9"),
        ({"norm": "linf"}, "not that of"),
        ({"threat_radius": "0.2"}, "not that of"),
        ({"threat_radius": "nan"}, "radius must be"),
        ({"threat_radius": None}, "valid certificate"),
        ({"norm": None}, None),  # a statement without its words is the same statement
        ({"norm": "l7"}, "valid certificate"),
        ({"methods": ["milp"]}, "no bounds that can be checked"),
        ({"methods": ["combined"]}, "no bounds that can be checked"),
        ({"methods": ["os"]}, "no bounds that can be checked"),
        ({"methods": "lp"}, "valid certificate"),
        ({"methods": []}, "prove a bound of inf"),
        ({"methods": ["lp", "lp"]}, "valid certificate"),
        ({"fingerprint": "0" * 64}, "another network"),
        ({"arithmetic": "believe me"}, "not known"),
        ({"hidden_layers_with_signs": 2}, "valid certificate"),
        ({"hidden_layers_with_signs": 10**9}, "valid certificate"),
        ({"details": "none"}, "valid certificate"),
    ],
)
def test_words_that_the_arrays_contradict_are_refused(changes, sentence, network, tmp_path) -> None:
    header, arrays = contents(certify(network, L2Ball(0.3, (0.0, 1.0))), tmp_path)
    path = rewrite(tmp_path, {**header, **changes}, arrays, honest=True)
    if sentence is None:
        load_certificate(path).check(network)
        return
    with pytest.raises((CertificateError, InvalidInputError), match=sentence):
        load_certificate(path).check(network)


def test_smaller_claims_and_other_networks_are_refused(network, rng) -> None:
    certificate = certify(network, LInfBall(0.1))
    for bounds in (certificate.bounds - 1e-6, certificate.bounds - [0, 1e-6], np.full(2, -np.inf), np.full(2, np.nan)):
        with pytest.raises(CertificateError):
            replace(certificate, bounds=bounds).check(network)
    assert (replace(certificate, bounds=certificate.bounds + 1).check(network) < certificate.bounds).all()
    W, b = network.layers[0]
    other = Network(((W * (1 + 1e-15), b), *network.layers[1:]), network.activation)
    with pytest.raises(CertificateError, match="another network"):
        certificate.check(other)
    claimed = replace(certificate, fingerprint=other.fingerprint())
    assert (claimed.check(other) <= certificate.bounds).all()  # a true statement about the other network


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"lower": np.full(4, 2.0), "upper": np.full(4, 1.0)}, "lower <= upper"),
        ({"lower": np.full(4, np.inf), "upper": np.full(4, np.inf)}, "box is empty"),
        ({"lower": np.full(4, -np.inf), "radius": np.inf}, "neither a box nor a ball"),
        ({"centre": np.full(4, np.nan)}, "finite centre"),
        ({"centre": np.full(4, 50.0), "radius": 1.0}, "does not meet"),
        ({"radius": -1.0}, "radius >= 0"),
        ({"radius": np.nan}, "radius >= 0"),
        ({"lower": np.zeros(3)}, "shape"),
    ],
)
def test_sets_that_hold_nothing_are_refused(changes, sentence, network) -> None:
    """An empty set would make every bound true."""
    certificate = replace(certify(network, Box(0.1, 0.8)), about=About())
    with pytest.raises((CertificateError, InvalidInputError), match=sentence):
        replace(certificate, inputs=replace(certificate.inputs, **changes)).check(network)


def test_rows_that_do_not_exist_prove_nothing(network) -> None:
    certificate = certify(network, LInfBall(0.1))
    proof = certificate.proofs[0]
    for rows in (np.array([0, 2]), np.array([-1, 0]), np.array([0, 0]), np.array([], dtype=int), np.array([[0, 1]])):
        with pytest.raises(CertificateError, match="row"):
            replace(certificate, proofs=(Proof("lp", rows, proof.multiplier),)).check(network)
    part = replace(certificate, proofs=(Proof("lp", np.array([1]), {}),), bounds=np.array([np.inf, 1e6]))
    assert part.check(network)[0] == np.inf


def test_parts_of_several_methods_make_one_certificate(network) -> None:
    x = np.full(4, 0.45)
    query = Query.of_rivals(network, x, 0, L2Ball(0.2))
    lp = get_certifier("lp")
    parts = [([0], lp.propose(query.rows([0]), Effort(), None)), ([0, 1], lp.propose(query, Effort(), None))]
    certificate = certificate_of(query, parts)
    assert (certificate.check(network) <= certificate.bounds).all()
    assert np.isfinite(certificate.bounds).all()


def test_signs_are_part_of_the_statement(network, tmp_path) -> None:
    query = Query.of_rivals(network, np.full(4, 0.45), 0, LInfBall(0.3))
    signs = tuple(np.r_[1, np.zeros(m - 1)].astype(np.int8) for m in network.n_hidden)
    part = query.with_signs(signs)
    certificate = certificate_of(part, get_certifier("lp").propose(part, Effort(), None))
    back = LocalCertificate.load(certificate.save(tmp_path / "part.npz"))
    assert (back.check(network) <= certificate.bounds).all()
    assert "2 units with the signs of the file" in str(back)
    with pytest.raises(CertificateError, match="signs must be"):
        replace(certificate, signs=signs[:1]).check(network)
    with pytest.raises(CertificateError, match="signs must be"):
        replace(certificate, signs=tuple(5 * s for s in signs)).check(network)


def test_files_about_whole_networks_still_load(network, tmp_path) -> None:
    old = lipschitz(network, method="product")
    assert isinstance(load_certificate(old.save(tmp_path / "old.npz")), Certificate)
    with pytest.raises(InvalidInputError, match="version 2"):
        LocalCertificate.load(tmp_path / "old.npz")
    certify(network, LInfBall(0.1)).save(tmp_path / "new.npz")
    with pytest.raises(InvalidInputError, match="version 1"):
        Certificate.load(tmp_path / "new.npz")
    with pytest.raises(InvalidInputError):
        load_certificate(network.save(tmp_path / "net.npz"))


def test_the_command_checks_files_and_folders(network, tmp_path, capsys) -> None:
    certificates = [certify(network, threat) for threat in THREATS[:3]]
    numbered = [replace(c, about=replace(c.about, index=i)) for i, c in enumerate(certificates)]
    paths = save_certificates(numbered, tmp_path / "claims")
    net = str(network.save(tmp_path / "net.npz"))
    assert main(["check", str(paths[0]), net]) == 0
    said = capsys.readouterr().out
    assert "|x - the sample in the file (number 0, as claimed)|_2 <= 0.3" in said
    assert "f_0(x) - f_1(x) <= " in said
    assert "by lp, float64+slack" in said
    assert main(["check", str(tmp_path / "claims"), net, "--exact"]) == 0
    assert "3 of 3 certificates hold" in capsys.readouterr().out
    replace(numbered[1], bounds=numbered[1].bounds - 0.1).save(paths[1])
    paths[2].write_bytes(paths[2].read_bytes()[:-200])
    assert main(["check", str(tmp_path / "claims"), net]) == 1
    told = capsys.readouterr()
    assert "1 of 3 certificates hold" in told.out
    assert "2 of 3 certificates" in told.err
    assert main(["check", str(paths[1]), net]) == 1
    (tmp_path / "empty").mkdir()
    assert main(["check", str(tmp_path / "empty"), net]) == 2
    lipschitz(network, method="product").save(tmp_path / "old.npz")
    assert main(["check", str(tmp_path / "old.npz"), net]) == 0
    assert main(["check", str(tmp_path / "old.npz"), net, "--exact"]) == 1


def test_two_certificates_of_one_sample_do_not_overwrite_each_other(network, tmp_path) -> None:
    certificate = certify(network, LInfBall(0.1))
    with pytest.raises(InvalidInputError, match="sample 7"):
        save_certificates([certificate, certificate], tmp_path)


def test_what_cannot_be_stated_in_words_is_stated_by_arrays(network) -> None:
    query = Query(network, InputSet.box(np.zeros(4), np.ones(4)), np.array([[0.5, 0.0, -2.0]]), np.array([-3.0]))
    certificate = certificate_of(query, get_certifier("lp").propose(query, Effort(), None))
    assert "lower <= x <= upper of the file" in str(certificate)
    assert "0.5 f_0(x) - 2 f_2(x) - 3 <= " in str(certificate)


def test_a_report_gives_a_certificate_for_every_sample_it_certifies(network, rng, tmp_path, capsys) -> None:
    X = rng.random((6, 4))
    y = network(X).argmax(axis=1)
    y[0] = (y[0] + 1) % 3
    report = run_certify(network, X, y, L2Ball(0.05), keep_evidence=True, random_state=0)
    certificates = report.certificates(network, X, y)
    certified = [v for v in report.verdicts if v.status == "certified"]
    assert [c.about.index for c in certificates] == [v.index for v in certified]
    assert len(certified) > 1
    for certificate, verdict in zip(certificates, certified, strict=True):
        assert certificate.check(network).max() <= verdict.margin  # which adds the rounding of float64 evaluations
        assert f"is given the class {verdict.label}" in str(certificate)
    exact = report.certificates(network, X, y, exact=True)
    assert all((e.bounds <= c.bounds).all() for e, c in zip(exact, certificates, strict=True))
    save_certificates(exact, tmp_path / "claims")
    assert main(["check", str(tmp_path / "claims"), str(network.save(tmp_path / "net.npz"))]) == 0
    assert "exact" in capsys.readouterr().out
    with pytest.raises(CertificateError, match="other data"):
        report.certificates(network, X + 1e-9, y)
    with pytest.raises(InvalidInputError, match="keep_evidence"):
        run_certify(network, X, y, L2Ball(0.05), random_state=0).certificates(network, X, y)


def test_the_evidence_of_a_cascade_is_taken_apart(network) -> None:
    query = Query.of_rivals(network, np.full(4, 0.45), 0, L2Ball(0.2))
    names = ("lp", "sdp")
    parts = [((row,), get_certifier(name).propose(query.rows([row]), Effort(), None)) for row, name in enumerate(names)]
    certificate = certificate_of(query, combine(parts, 2))
    assert certificate.methods == names
    expected = [
        get_certifier(name).check(query.rows([row]), parts[row][1].multiplier)[0] for row, name in enumerate(names)
    ]
    np.testing.assert_array_equal(certificate.check(network), expected)
