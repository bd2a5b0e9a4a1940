"""
LipSDP: how fast, at which certified accuracy, against every SDP solver that is installed?
==========================================================================================

One process, one thread, the same random networks. Every solver gets two forms of the same problem, the matrix
inequality of the paper and its max-cut form; only the time inside the solver counts, not the translation by cvxpy.
Whatever a solver returns is turned into a multiplier and certified by the same check as ours; the printed gap is

    certified bound of the method / best proved value of LipSDP - 1.

CVXOPT and SDPA are not dependencies (their licences are not permissive); they are measured when they can be imported.

    python examples/benchmarks/lipsdp.py            # 100 units, 10 inputs, all solvers; then large networks, ours only
    python examples/benchmarks/lipsdp.py --large    # also 10,000 units with 784 inputs
    python examples/benchmarks/lipsdp.py --quick    # 30 units against the solvers, at most 1,000 alone
    python examples/benchmarks/lipsdp.py --deep     # several hidden layers, ours only
"""

import os

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

import sys
import time
import warnings

import cvxpy as cp
import numpy as np

from convexnn.certificates.lipschitz import check_lipsdp, lipschitz
from convexnn.certificates.lipschitz_lmi import _repaired, lmi_problem
from convexnn.lipsdp import maximize, stack
from convexnn.network import Network

#: Seconds on the clock for a solver, on an idle machine; more where others are at work, so that it gets as much done.
TIME_LIMIT = 30.0 * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
LARGE = [(100, 10), (1_000, 10), (1_000, 50), (1_000, 784), (10_000, 10), (10_000, 50)]
DEEP = [(3, 5, 4, 1), (8, 12, 10, 3), (20, 64, 64, 10), (30, 50, 50, 10), (64, 100, 100, 10), (64, 100, 100, 100, 10)]
SOLVERS = {
    "SDPA": {},
    "CVXOPT": {},
    "CLARABEL": {"time_limit": TIME_LIMIT},
    "SCS": {"eps_abs": 1e-9, "eps_rel": 1e-9, "max_iters": 200_000, "time_limit_secs": TIME_LIMIT},
}


def random_network(m, d, seed):
    """Gaussian weights at the scale of a fresh network."""
    rng = np.random.default_rng(seed)
    W, v = rng.standard_normal((m, d)) / np.sqrt(d), rng.standard_normal(m) / np.sqrt(m)
    return Network.shallow(W, rng.standard_normal(m), v)


def matrix_inequality(network):
    """The problem of the paper, and the multiplier its solution gives."""
    problem = lmi_problem(network)
    return problem, lambda: _repaired(network, problem.var_dict["t"].value)


def max_cut(network):
    """``min sum y, diag(y) >= B B' / 4``: q = y / sum y."""
    B = stack(network.W, network.v)
    y = cp.Variable(len(B))
    problem = cp.Problem(cp.Minimize(cp.sum(y)), [cp.diag(y) - 0.25 * B @ B.T >> 0])
    return problem, lambda: np.maximum(y.value, 1e-12 * y.value.max())


def run_solver(name, options, form, network):
    """Seconds inside the solver (CPU, wall) and the bound certified from its multiplier."""
    problem, multiplier = form(network)
    data, chain, inverse = problem.get_problem_data(name, solver_opts=options)
    cpu, wall = time.process_time(), time.perf_counter()
    raw = chain.solve_via_data(problem, data, warm_start=False, verbose=False, solver_opts=dict(options))
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    problem.unpack_results(raw, chain, inverse)
    return cpu, wall, check_lipsdp(network, {"q": multiplier()})


def ours(network, tol, repeats):
    """Median seconds (CPU, wall) of a full certified computation, bound and lower value."""
    cpu, wall = [], []
    for _ in range(repeats):
        c, w = time.process_time(), time.perf_counter()
        certificate = lipschitz(network, tol=tol)
        cpu.append(time.process_time() - c)
        wall.append(time.perf_counter() - w)
    return float(np.median(cpu)), float(np.median(wall)), certificate


def compare(m, d, seed):
    """One table: ours against every installed solver in its better form."""
    network = random_network(m, d, seed)
    lower = maximize(stack(network.W, network.v), 1e-12).lower
    ours(network, 1e-8, 3)
    cpu, wall, certificate = ours(network, 1e-8, 15)
    print(f"\n{m} units, {d} inputs, seed {seed}: LipSDP = {lower:.10f}")
    print("\n| method | CPU s | wall s | gap | CPU ratio | agrees to 1e-6 |\n|---|---:|---:|---:|---:|---|")
    print(f"| convexnn | {cpu:.4f} | {wall:.4f} | {certificate.bound / lower - 1:.1e} | 1 | yes |")
    ratios = []
    for name, options in SOLVERS.items():
        if name not in cp.installed_solvers():
            print(f"| {name} | not installed | | | | |")
            continue
        for form in (max_cut, matrix_inequality):
            label = f"{name} {form.__name__}"
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    c, w, bound = run_solver(name, options, form, network)
            except Exception as error:  # noqa: BLE001  a benchmark reports every failure and goes on
                print(f"| {label} | no answer in {TIME_LIMIT:.0f} s or failed: {type(error).__name__} | | | | |")
                continue
            agrees = "yes" if abs(bound / lower - 1) <= 1e-6 else "no"
            ratios.append(c / cpu)
            print(f"| {label} | {c:.4f} | {w:.4f} | {bound / lower - 1:.1e} | {c / cpu:.0f} | {agrees} |")
    if ratios:
        print(f"\nfastest solver / convexnn: {min(ratios):.0f} (CPU seconds; floor 15)")


def large(m, d):
    """Ours alone, certified."""
    network = random_network(m, d, 1)
    cpu, wall, certificate = ours(network, 1e-7, 1)
    gap = certificate.bound / certificate.lower - 1
    product = lipschitz(network, method="product").bound
    print(f"| {m} x {d} | {cpu:.3f} | {wall:.3f} | {gap:.1e} | {product / certificate.bound:.2f} |", flush=True)


def deep(sizes):
    """Several hidden layers, Gaussian weights: the bound of deep LipSDP."""
    rng = np.random.default_rng(0)
    pairs = zip(sizes, sizes[1:], strict=False)
    network = Network([(rng.standard_normal((b, a)) / np.sqrt(a), np.zeros(b)) for a, b in pairs])
    cpu = time.process_time()
    bound = lipschitz(network, method="deep_lipsdp").bound
    cpu = time.process_time() - cpu
    product = lipschitz(network, method="product").bound
    print(f"| {'-'.join(map(str, sizes))} | {cpu:.3f} | {product / bound:.2f} |", flush=True)


def main():
    """Print the tables."""
    if "--deep" in sys.argv:
        print("| layers | CPU s | product / ours |\n|---|---:|---:|")
        for sizes in DEEP:
            deep(sizes)
        return
    print(f"load average {os.getloadavg()[0]:.2f}, one thread, numpy {np.__version__}, cvxpy {cp.__version__}")
    quick = "--quick" in sys.argv
    compare(30 if quick else 100, 10, 0)
    print("\n| units x inputs | CPU s | wall s | gap | product / ours |\n|---|---:|---:|---:|---:|")
    for m, d in LARGE[: 3 if quick else None]:
        large(m, d)
    if "--large" in sys.argv:
        large(10_000, 784)
    print(f"load average at the end {os.getloadavg()[0]:.2f}")


if __name__ == "__main__":
    main()
