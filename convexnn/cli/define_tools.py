"""The commands around it: show, convert, solvers, completion."""

from __future__ import annotations

from argparse import ArgumentParser

from convexnn.cli.arguments import Definition, network

SHELLS = ("bash", "zsh", "fish")


def _show(parser: ArgumentParser) -> None:
    parser.add_argument("file", help="network (.npz, .onnx) or certificate (.npz)")


def _convert(parser: ArgumentParser) -> None:
    network(parser)
    parser.add_argument("target", metavar="TARGET", help="file to write: .npz, .onnx")
    parser.add_argument(
        "--dtype", default="float64", choices=("float64", "float32"), help="of ONNX weights; float32 rounds them"
    )


def _solvers(parser: ArgumentParser) -> None:
    del parser


def _completion(parser: ArgumentParser) -> None:
    parser.add_argument("shell", choices=SHELLS, help="the shell")


COMMANDS = (
    Definition(
        "show",
        "tools:show",
        "say what is in a network or certificate file",
        "Print sizes, activation and fingerprint of a network, or what a certificate claims. Nothing is proved: use "
        "check for that.",
        """
  convexnn show net.onnx
  convexnn show cert.npz --json
""",
        _show,
    ),
    Definition(
        "convert",
        "tools:convert",
        "turn a network file into another format",
        "Read a network and write it as .npz of convexnn or as .onnx. The result is read back; what is printed is how "
        "far its weights are from the original ones (zero but for float32).",
        """
  convexnn convert net.onnx net.npz
  convexnn convert net.npz net.onnx --dtype float32
""",
        _convert,
    ),
    Definition(
        "solvers",
        "tools:solvers",
        "list the solvers, and whether they are installed and licensed",
        "List the solvers of the convex programs, and whether they are installed and licensed.",
        """
  convexnn solvers
  convexnn solvers --json
""",
        _solvers,
    ),
    Definition(
        "completion",
        "completion:completion",
        "print a script that completes commands and options in a shell",
        "Print a script for bash, zsh or fish. It is static: nothing runs while you type.",
        """
  source <(convexnn completion bash)
  convexnn completion zsh > ~/.zfunc/_convexnn      # a folder in $fpath, before compinit
  convexnn completion fish > ~/.config/fish/completions/convexnn.fish
""",
        _completion,
    ),
)
