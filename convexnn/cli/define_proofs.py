"""The commands that prove: lipschitz, region, attack, certify, report, check."""

from __future__ import annotations

from argparse import ArgumentParser

from convexnn.cli.arguments import Definition, data, network, seed, target

NORMS = ("2", "inf", "l2", "linf")


def _lipschitz(parser: ArgumentParser) -> None:
    network(parser)
    parser.add_argument("--method", choices=("lipsdp", "deep_lipsdp", "product"), help="default: by depth and size")
    parser.add_argument("--near", metavar="FILE", help="csv or npz; the lower bound is looked for near its rows, too")
    target(parser)
    parser.add_argument("--save", metavar="FILE", help="write the certificate (npz)")


def _region(parser: ArgumentParser) -> None:
    network(parser)
    parser.add_argument("--norm", default="2", choices=NORMS, help="ball or cube, with --radius")
    parser.add_argument("--radius", type=float, metavar="R", help="radius or half width, input units")
    parser.add_argument("--center", type=float, nargs="+", metavar="X", help="center (default: the origin); d numbers")
    parser.add_argument("--lower", type=float, nargs="+", metavar="X", help="lower corner of a box; d numbers, or one")
    parser.add_argument("--upper", type=float, nargs="+", metavar="X", help="upper corner of a box; d numbers, or one")
    parser.add_argument("--of", type=int, default=0, metavar="I", help="output that is bounded, from 0")
    parser.add_argument("--minus", type=int, metavar="J", help="bound the difference of outputs I and J")
    parser.add_argument("--below", type=float, metavar="T", help="what is to be proved: the output stays below T")
    parser.add_argument("--method", default="auto", help="see the guide on safe regions")
    parser.add_argument("--time-limit", type=float, metavar="SECONDS", help="return the best bound so far")
    parser.add_argument("--exact", action="store_true", help="prove the bound over the rational numbers")
    parser.add_argument("--save", metavar="FILE", help="write the certificate (npz)")


def _attack(parser: ArgumentParser) -> None:
    network(parser)
    data(parser)
    parser.add_argument("--norm", default="l2", choices=("l2", "linf"), help="norm of the perturbation")
    parser.add_argument(
        "--radius", type=float, nargs="+", default=[0.1], metavar="R", help="radii in input units (default: 0.1)"
    )
    parser.add_argument("--steps", type=int, default=50, help="gradient steps")
    parser.add_argument("--restarts", type=int, default=3, help="random restarts")
    seed(parser)
    parser.add_argument("--csv", metavar="FILE", help="write the table")
    parser.add_argument("--plot", metavar="FILE", help="write the robustness curve (png, pdf, svg)")


def _certify(parser: ArgumentParser) -> None:
    parser.add_argument("--model", required=True, metavar="NET", help="network: .onnx, or .npz saved by convexnn")
    parser.add_argument("--property", metavar="FILE", help="VNN-LIB file that describes the unsafe set")
    parser.add_argument("--data", metavar="FILE", help="samples: npz with arrays X and y, or csv; y are class indices")
    parser.add_argument("--target", help="class column of a csv file: name or number from 1 (default: the last)")
    parser.add_argument("--norm", default="2", choices=NORMS, help="norm of the perturbation")
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
    seed(parser, "random seed of the attacks")


def _report(parser: ArgumentParser) -> None:
    parser.add_argument("--model", required=True, nargs="+", metavar="NET", help="networks: .onnx or .npz")
    parser.add_argument(
        "--data", required=True, metavar="FILE", help="samples: npz with X and y, or csv; y are classes"
    )
    parser.add_argument("--target", help="class column of a csv file: name or number from 1 (default: the last)")
    parser.add_argument("--norm", default="inf", choices=NORMS, help="norm of the perturbation")
    parser.add_argument("--radius", type=float, nargs="+", required=True, metavar="R", help="radii, input units")
    parser.add_argument("--clip", type=float, nargs=2, metavar=("LOW", "HIGH"), help="range of the inputs")
    parser.add_argument("--method", nargs="+", default=["crown", "sdp"], metavar="NAME", help="default: crown sdp")
    parser.add_argument("--html", metavar="FILE", help="write one self-contained page")
    parser.add_argument("--csv", metavar="FILE", help="write the table")
    seed(parser, "random seed of the attacks")


def _check(parser: ArgumentParser) -> None:
    parser.add_argument("certificate", help="certificate saved by convexnn (npz), or a folder of them")
    network(parser)
    parser.add_argument("--exact", action="store_true", help="recompute in rational arithmetic (small networks)")


COMMANDS = (
    Definition(
        "lipschitz",
        "commands:lipschitz",
        "bracket the Lipschitz constant of a saved network",
        "Bracket the l2 Lipschitz constant of a network over the whole input space, in the input units of the network. "
        "Proved: the upper bound, from a multiplier that is recomputed with outward rounding. The lower bound is a "
        "gradient that some point attains.",
        """
  convexnn lipschitz net.npz
  convexnn lipschitz net.onnx --near data.csv --save cert.npz && convexnn check cert.npz net.onnx
  convexnn lipschitz net.npz --json | python -c "import json, sys; print(json.load(sys.stdin)['upper'])"
""",
        _lipschitz,
    ),
    Definition(
        "region",
        "regions:region",
        "bound an output of a network on a whole ball or box",
        "Upper bound on an output, or on the difference of two, over ALL points of a ball (l2), a cube (linf) or a "
        "box, in raw input units. With --below T: exit code 0 when the bound is below T (proved), 1 when a point "
        "reaches T, 3 when neither is known.",
        """
  convexnn region net.npz --radius 1.0 --below 0
  convexnn region net.onnx --lower 0 --upper 1 --of 2 --minus 0 --save cert.npz
  convexnn region net.npz --norm inf --center 0.5 -1 --radius 0.1 --exact
""",
        _region,
    ),
    Definition(
        "attack",
        "commands:attack",
        "attack a saved network on data, certify the worst case",
        "Mean error of a network under the worst perturbation of every sample: from below by attacks (FGSM and PGD), "
        "from above by certificates. Squared error for regression; radii in raw input units.",
        """
  convexnn attack net.npz data.csv --radius 0.05 0.1 0.2 --plot curve.png
  convexnn attack net.npz --data diabetes --norm linf --csv table.csv --json
""",
        _attack,
    ),
    Definition(
        "certify",
        "certify:certify",
        "prove or refute robustness around samples, or a VNN-LIB property",
        "A verdict on every sample: certified (no point of the ball is misclassified, proved for the real-valued "
        "network), falsified (a misclassified point inside the ball), or unknown with the reason. With --property: "
        "whether the unsafe set of a VNN-LIB file is reachable. Exit code 0 all certified, 1 something falsified, 3 "
        "something unknown and nothing falsified.",
        """
  convexnn certify --model net.onnx --data points.npz --norm 2 --radius 0.5
  convexnn certify --model net.onnx --data digits.csv --norm inf --radius 0.03 --clip 0 1 --jobs 4 --output run.jsonl
  convexnn certify --model net.npz --data points.npz --radius 0.5 --certificates proofs && convexnn check proofs net.npz
  convexnn certify --model net.onnx --property prop.vnnlib --counterexample out.txt
""",
        _certify,
    ),
    Definition(
        "report",
        "reports:report",
        "robust error of classifiers against the radius, as a table and a page",
        "Clean, attacked and certified error of classifiers at several radii (raw input units) by several methods; "
        "attacks bound the robust error from below, certificates from above.",
        """
  convexnn report --model net.onnx --data points.npz --norm inf --radius 0.01 0.03 --html report.html
  convexnn report --model a.npz b.npz --data points.csv --radius 0.1 --method crown lp --csv table.csv
""",
        _report,
    ),
    Definition(
        "check",
        "checking:check",
        "check saved certificates against a saved network",
        "Recompute the bounds of saved certificates from the multipliers in the files and the network alone. Exit code "
        "1 when one is refused: altered, about another network, or not proving what it claims.",
        """
  convexnn check cert.npz net.npz
  convexnn check proofs/ net.onnx --exact --json
""",
        _check,
    ),
)
