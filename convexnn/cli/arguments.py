"""What describes a command, and the arguments that several commands share."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Definition:
    """One command: its name, the function that runs it (``module:function``), and what its help says."""

    name: str
    run: str
    summary: str
    description: str
    examples: str
    arguments: Callable[[argparse.ArgumentParser], None]


NETWORK = "network: .npz saved by convexnn, or .onnx (fully connected)"


def network(parser: argparse.ArgumentParser) -> None:
    """The network file, first."""
    parser.add_argument("network", help=NETWORK)


def data(parser: argparse.ArgumentParser) -> None:
    """A data file or the bundled data, and the target column."""
    parser.add_argument(
        "data", nargs="?", metavar="DATA", help="csv with or without header, or npz with arrays X and y"
    )
    parser.add_argument("--data", dest="bundled", choices=("diabetes",), help="bundled data instead of DATA")
    target(parser)


def target(parser: argparse.ArgumentParser) -> None:
    """The target column of a csv file."""
    parser.add_argument("--target", help="target column of a csv file: name or number from 1 (default: the last)")


def solver(parser: argparse.ArgumentParser) -> None:
    """How a convex program is solved."""
    parser.add_argument("--solver", default="auto", help="see the command solvers")
    parser.add_argument("--tol", type=float, default=1e-6, help="verified relative gap")
    parser.add_argument("--max-iter", type=int, default=200, help="solver iterations")
    parser.add_argument("--time-limit", type=float, metavar="SECONDS", help="keep the best found by then")


def training(parser: argparse.ArgumentParser) -> None:
    """Weight of the regularizer, method and solver."""
    parser.add_argument("--lam", type=float, default=0.01, help="weight of the regularizer")
    parser.add_argument("--method", default="joint", choices=("joint", "alternating"), help="for the Lipschitz one")
    solver(parser)


def results(parser: argparse.ArgumentParser) -> None:
    """Where network, certificate and table go."""
    parser.add_argument("--output", default="network.npz", metavar="FILE", help="the network")
    parser.add_argument("--certificate", metavar="FILE", help="write its Lipschitz certificate (npz)")
    parser.add_argument("--report", metavar="FILE", help="write the table (md, csv or txt)")
    parser.add_argument(
        "--radius",
        type=float,
        nargs="+",
        default=[0.1],
        metavar="R",
        help="l2 radii of the table, input units (default: 0.1)",
    )


def seed(parser: argparse.ArgumentParser, what: str = "random seed") -> None:
    """The seed of everything that is random."""
    parser.add_argument("--seed", type=int, default=0, help=what)
