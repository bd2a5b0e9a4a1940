"""The arguments of every command."""

from __future__ import annotations

import argparse
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]


class _Help(argparse.HelpFormatter):
    """Adds the default to the help of every option that has one worth saying."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        silent = action.default is None or isinstance(action.default, bool | list) or action.nargs == 0
        return action.help if silent else f"{action.help} (default: %(default)s)"


def build_parser() -> argparse.ArgumentParser:
    """Return the parser; the chosen command names its function in ``run``."""
    parser = argparse.ArgumentParser(
        prog="convexnn",
        description="Train shallow neural networks by convex programs and prove things about them.",
    )
    parser.add_argument("--version", action="version", version=f"convexnn {_version()}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for add in (_demo, _fit, _refine, _lipschitz, _attack, _certify, _check, _solvers):
        add(commands)
    return parser


def _version() -> str:
    try:
        return version("convexnn")
    except PackageNotFoundError:
        return "(not installed)"


def _command(commands: Commands, name: str, run: str, text: str) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=text, description=text, formatter_class=_Help)
    parser.set_defaults(run=run)
    return parser


def _demo(commands: Commands) -> None:
    parser = _command(commands, "demo", "demo:demo", "The whole way on scikit-learn's diabetes data.")
    parser.add_argument("--output", default="demo_output", metavar="DIR", help="folder for the results")
    parser.add_argument("--lam", type=float, default=0.1, help="weight of the squared Lipschitz bound")
    parser.add_argument("--lam-l2", type=float, default=0.01, help="weight of the squared weights")
    parser.add_argument("--hidden-units", type=int, default=100, metavar="M", help="hidden units")
    parser.add_argument("--seed", type=int, default=0, help="random seed")
    parser.add_argument("--quick", action="store_true", help="a few units and epochs: a try-out, not a result")


def _fit(commands: Commands) -> None:
    parser = _command(commands, "fit", "commands:fit", "Train a network on data by a convex program.")
    _data(parser)
    _training(parser)
    parser.add_argument(
        "--regularizer",
        default="lipschitz",
        choices=("lipschitz", "l2", "gated"),
        help="what lam weighs",
    )
    parser.add_argument("--hidden-units", type=int, default=100, metavar="M", help="hidden units")
    parser.add_argument(
        "--start",
        default="adam",
        choices=("adam", "sgd", "random"),
        help="where the fit starts from",
    )
    parser.add_argument(
        "--standardize", action="store_true",
        help="train on standardized inputs (lam is in their units); the saved network takes raw inputs",
    )  # fmt: skip
    parser.add_argument(
        "--test-size", type=float, default=0.0, metavar="SHARE", help="hold out this share of the rows (default: none)"
    )
    parser.add_argument("--seed", type=int, default=0, help="random seed")
    _results(parser)


def _refine(commands: Commands) -> None:
    parser = _command(commands, "refine", "commands:refine", "Improve a saved network by a convex program.")
    parser.add_argument("network", help="network: .npz saved by convexnn, or .onnx")
    _data(parser)
    _training(parser)
    parser.add_argument("--regularizer", default="lipschitz", choices=("lipschitz", "l2"), help="what lam weighs")
    parser.add_argument(
        "--layers",
        default="all",
        choices=("all", "last2"),
        help="the whole network or its last two layers",
    )
    _results(parser)


def _lipschitz(commands: Commands) -> None:
    parser = _command(commands, "lipschitz", "commands:lipschitz", "Bracket the Lipschitz constant of a saved network.")
    parser.add_argument("network", help="network: .npz saved by convexnn, or .onnx")
    parser.add_argument("--method", choices=("lipsdp", "deep_lipsdp", "product"), help="default: by depth and size")
    parser.add_argument("--near", metavar="FILE", help="csv or npz; the lower bound is looked for near its rows, too")
    parser.add_argument("--target", help="target column of FILE: name or number from 1 (default: the last)")
    parser.add_argument("--save", metavar="FILE", help="write the certificate (npz)")


def _attack(commands: Commands) -> None:
    parser = _command(commands, "attack", "commands:attack", "Attack a saved network, certify the worst case.")
    parser.add_argument("network", help="network: .npz saved by convexnn, or .onnx")
    _data(parser)
    parser.add_argument("--norm", default="l2", choices=("l2", "linf"), help="norm of the perturbation")
    parser.add_argument(
        "--radius", type=float, nargs="+", default=[0.1], metavar="R", help="radii in input units (default: 0.1)"
    )
    parser.add_argument("--steps", type=int, default=50, help="gradient steps")
    parser.add_argument("--restarts", type=int, default=3, help="random restarts")
    parser.add_argument("--seed", type=int, default=0, help="random seed")
    parser.add_argument("--csv", metavar="FILE", help="write the table")
    parser.add_argument("--plot", metavar="FILE", help="write the robustness curve (png, pdf, svg)")


def _certify(commands: Commands) -> None:
    parser = _command(commands, "certify", "certify:certify", "Prove or refute robustness, or a VNN-LIB property.")
    parser.epilog = (
        "Exit codes: 0 all certified (the property holds), 1 something falsified (the property is violated), "
        "2 bad arguments or files, 3 something unknown and nothing falsified, 130 interrupted."
    )
    parser.add_argument("--model", required=True, metavar="NET", help="network: .onnx, or .npz saved by convexnn")
    parser.add_argument("--property", metavar="FILE", help="VNN-LIB file that describes the unsafe set")
    parser.add_argument("--data", metavar="FILE", help="samples: npz with arrays X and y, or csv; y are class indices")
    parser.add_argument("--target", help="class column of a csv file: name or number from 1 (default: the last)")
    parser.add_argument("--norm", default="2", choices=("2", "inf", "l2", "linf"), help="norm of the perturbation")
    parser.add_argument("--radius", type=float, metavar="R", help="size of the perturbation, input units")
    parser.add_argument("--clip", type=float, nargs=2, metavar=("LOW", "HIGH"), help="range of the inputs")
    parser.add_argument("--method", default="auto", help="certification method")
    parser.add_argument("--time-limit", type=float, metavar="SECONDS", help="wall time of the whole run")
    parser.add_argument(
        "--sample-time-limit", type=float, default=60.0, metavar="SECONDS", help="wall time of one sample"
    )
    parser.add_argument("--jobs", type=int, metavar="N", help="processes")
    parser.add_argument("--output", metavar="FILE", help="verdicts as JSON lines; a run that was stopped goes on there")
    parser.add_argument("--certificates", metavar="DIR", help="write a certificate for each certified sample (npz)")
    parser.add_argument("--counterexample", metavar="FILE", help="write the verdict in the format of VNN-COMP")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout instead of the table")
    parser.add_argument("--seed", type=int, default=0, help="random seed of the attacks")
    parser.add_argument("--verbose", action="store_true", help="show every sample, however many")


def _check(commands: Commands) -> None:
    parser = _command(commands, "check", "checking:check", "Check saved certificates against a saved network.")
    parser.add_argument("certificate", help="certificate saved by convexnn (npz), or a folder of them")
    parser.add_argument("network", help="network: .npz saved by convexnn, or .onnx")
    parser.add_argument("--exact", action="store_true", help="recompute in rational arithmetic (small networks)")


def _solvers(commands: Commands) -> None:
    _command(commands, "solvers", "commands:solvers", "List the solvers, and whether they are installed and licensed.")


def _data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "data", nargs="?", metavar="DATA", help="csv with or without header, or npz with arrays X and y"
    )
    parser.add_argument("--data", dest="bundled", choices=("diabetes",), help="bundled data instead of DATA")
    parser.add_argument("--target", help="target column: name or number from 1 (default: the last)")


def _training(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--lam", type=float, default=0.01, help="weight of the regularizer")
    parser.add_argument(
        "--method",
        default="joint",
        choices=("joint", "alternating"),
        help="for the Lipschitz regularizer",
    )
    parser.add_argument("--solver", default="auto", help="see the command solvers")
    parser.add_argument("--tol", type=float, default=1e-6, help="verified relative gap")
    parser.add_argument("--max-iter", type=int, default=200, help="solver iterations")
    parser.add_argument("--verbose", action="store_true", help="show progress and solver iterations on stderr")
    parser.add_argument("--time-limit", type=float, metavar="SECONDS", help="keep the best network found by then")


def _results(parser: argparse.ArgumentParser) -> None:
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
