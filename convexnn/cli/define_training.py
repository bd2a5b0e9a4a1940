"""The commands that train: demo, fit, refine, path, safe."""

from __future__ import annotations

from argparse import ArgumentParser

from convexnn.cli.arguments import Definition, data, network, results, seed, solver, target, training


def _demo(parser: ArgumentParser) -> None:
    parser.add_argument("--output", default="demo_output", metavar="DIR", help="folder for the results")
    parser.add_argument("--lam", type=float, default=0.1, help="weight of the squared Lipschitz bound")
    parser.add_argument("--lam-l2", type=float, default=0.01, help="weight of the squared weights")
    parser.add_argument("--hidden-units", type=int, default=100, metavar="M", help="hidden units")
    seed(parser)
    parser.add_argument("--quick", action="store_true", help="a few units and epochs: a try-out, not a result")


def _fit(parser: ArgumentParser) -> None:
    data(parser)
    training(parser)
    parser.add_argument(
        "--regularizer", default="lipschitz", choices=("lipschitz", "l2", "gated"), help="what lam weighs"
    )
    parser.add_argument("--hidden-units", type=int, default=100, metavar="M", help="hidden units")
    parser.add_argument(
        "--start", default="adam", choices=("adam", "sgd", "random"), help="where the fit starts from"
    )  # fmt: skip
    parser.add_argument(
        "--standardize", action="store_true",
        help="train on standardized inputs (lam is in their units); the saved network takes raw inputs",
    )  # fmt: skip
    parser.add_argument(
        "--test-size", type=float, default=0.0, metavar="SHARE", help="hold out this share of the rows (default: none)"
    )
    seed(parser)
    results(parser)


def _refine(parser: ArgumentParser) -> None:
    network(parser)
    data(parser)
    training(parser)
    parser.add_argument("--regularizer", default="lipschitz", choices=("lipschitz", "l2"), help="what lam weighs")
    parser.add_argument(
        "--layers", default="all", choices=("all", "last2"), help="the whole network or its last two layers"
    )
    results(parser)


def _path(parser: ArgumentParser) -> None:
    data(parser)
    solver(parser)
    parser.add_argument(
        "--regularizer", default="lipschitz", choices=("lipschitz", "l2", "gated"), help="what lam weighs"
    )
    parser.add_argument(
        "--network", metavar="NET", help="network whose patterns are used (default: one trained by Adam)"
    )
    parser.add_argument("--hidden-units", type=int, default=50, metavar="M", help="hidden units where one is trained")
    parser.add_argument("--lams", type=float, nargs="+", metavar="LAM", help="the weights (default: from lam_max down)")
    parser.add_argument("--n-lams", type=int, default=20, metavar="K", help="number of weights without --lams")
    parser.add_argument("--lam-ratio", type=float, default=1e-5, help="smallest weight over the largest")
    parser.add_argument(
        "--between", type=float, metavar="GAP", help="add weights until every lam between is certified to this gap"
    )
    seed(parser)
    parser.add_argument("--csv", metavar="FILE", help="write the table")
    parser.add_argument("--plot", metavar="FILE", help="write loss and penalty against lam (png, pdf, svg)")
    parser.add_argument("--networks", metavar="DIR", help="write the network of every weight (npz)")


def _safe(parser: ArgumentParser) -> None:
    parser.add_argument("data", metavar="DATA", help="csv, or npz with arrays X and y; y has two classes")
    target(parser)
    parser.add_argument("--norm", default="2", choices=("2", "inf", "l2", "linf"), help="ball or cube")
    parser.add_argument("--radius", type=float, required=True, metavar="R", help="of the region, input units")
    parser.add_argument(
        "--center", type=float, nargs="+", metavar="X", help="of the region (default: the origin); d numbers"
    )
    parser.add_argument("--safe-class", type=float, metavar="LABEL", help="class of the region (default: the smaller)")
    parser.add_argument("--hidden-units", type=int, metavar="M", help="hidden units (default: three an input)")
    parser.add_argument("--max-iter", type=int, metavar="N", help="gradient steps")
    parser.add_argument("--time-limit", type=float, metavar="SECONDS", help="keep the safe network so far")
    seed(parser)
    parser.add_argument("--output", default="network.npz", metavar="FILE", help="the safe network")
    parser.add_argument("--certificate", default="certificate.npz", metavar="FILE", help="the proof")


COMMANDS = (
    Definition(
        "demo",
        "demo:demo",
        "the whole way on scikit-learn's diabetes data",
        "Pretrain a network on the diabetes data, solve the convex programs of its activation patterns, attack and "
        "certify every stage, save the last network with its certificate, and check both again from disk. Radii and "
        "Lipschitz bounds are in standardized units, norm l2.",
        """
  convexnn demo
  convexnn demo --quick --output try --json
""",
        _demo,
    ),
    Definition(
        "fit",
        "commands:fit",
        "train a regression network on data by a convex program",
        "Train a network with one hidden ReLU layer: pretrain it, then solve the convex program of its activation "
        "patterns. Proved: the training objective is never above that of the start, its distance from the optimum of "
        "the program (verified gap), and the l2 Lipschitz constant of the saved network, in input units. A gap says "
        "nothing about other patterns.",
        """
  convexnn fit --data diabetes --standardize --test-size 0.25
  convexnn fit data.csv --target price --lam 0.1 --output net.npz --certificate cert.npz
  convexnn fit data.npz --regularizer l2 --report table.md --radius 0.05 0.1 0.2
""",
        _fit,
    ),
    Definition(
        "refine",
        "commands:refine",
        "improve a saved network by a convex program",
        "Solve the convex program of the activation patterns of a given network on given data. Proved: the objective "
        "of the result is never above that of the network that came in. Networks of other tools come in as ONNX.",
        """
  convexnn refine net.onnx data.csv --lam 0.1 --output better.npz --certificate cert.npz
  convexnn refine deep.npz data.csv --layers last2
""",
        _refine,
    ),
    Definition(
        "path",
        "paths:path",
        "one convex program at many weights lam",
        "Solve the program of one set of activation patterns at many weights of the regularizer. Proved: a gap at "
        "every weight, and between the weights as well (--between).",
        """
  convexnn path data.csv --n-lams 10 --csv path.csv --plot path.png
  convexnn path data.csv --network net.npz --lams 1 0.1 0.01 --between 0.05
""",
        _path,
    ),
    Definition(
        "safe",
        "safe:safe",
        "train a classifier that is proved safe on a whole ball or cube",
        "Train a ReLU network f with f < 0 PROVED for every point of a region, so that no point of it is ever given "
        "the other class; outside, it accepts as many samples of the other class as it can. Radius and center are in "
        "raw input units.",
        """
  convexnn safe points.npz --radius 1.0 --output safe.npz --certificate proof.npz
  convexnn safe points.csv --norm inf --center 0 0 --radius 0.5 && convexnn check certificate.npz network.npz
""",
        _safe,
    ),
)
