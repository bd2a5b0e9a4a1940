"""The parser of the command line; every command is described in one of the ``define_*`` modules."""

from __future__ import annotations

import argparse
import re
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, NoReturn

from convexnn.cli import define_proofs, define_tools, define_training
from convexnn.cli.arguments import Definition
from convexnn.cli.codes import MEANING, USAGE

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction["Parser"]

DESCRIPTION = "Train shallow neural networks by convex programs and prove things about them."
EPILOG = """\
the way through:
  convexnn fit data.csv --standardize --output net.npz    train; never worse than the start
  convexnn lipschitz net.npz --save cert.npz              prove a bound on the slope
  convexnn check cert.npz net.npz                         recompute the proof from the files
  convexnn attack net.npz data.csv --radius 0.1           worst case, from below and above
  convexnn certify --model net.onnx --data points.npz --radius 0.5
                                                          a verdict on every sample

`convexnn COMMAND --help` says what a command computes, in which units, and shows examples.
Every command takes --json (one object on stdout), --quiet and --verbose.
"""


class UsageError(SystemExit):
    """Arguments that were not understood; usage and sentence have been printed."""

    def __init__(self, command: str | None, sentence: str) -> None:
        super().__init__(USAGE)
        self.command, self.sentence = command, sentence

    def __str__(self) -> str:
        """Say what was wrong."""
        return self.sentence


#: Numbers that argparse must not take for options, 1e-3 included.
NEGATIVE = re.compile(r"^-(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?$|^-inf$")


class Parser(argparse.ArgumentParser):
    """A parser whose errors can be caught with their sentence."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"formatter_class": Help, "allow_abbrev": False, **options})
        self._negative_number_matcher = NEGATIVE

    def error(self, message: str) -> NoReturn:
        """Print usage and message on stderr."""
        self._print_message(f"{self.format_usage()}{self.prog}: error: {message}\n", sys.stderr)
        raise UsageError(self.prog.partition(" ")[2] or None, message)


class Help(argparse.HelpFormatter):
    """Adds the default to the help of options that have one worth saying; epilogs keep their lines."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=28)

    def _get_help_string(self, action: argparse.Action) -> str | None:
        silent = action.default is None or isinstance(action.default, bool | list) or action.nargs == 0
        return action.help if silent else f"{action.help} (default: %(default)s)"

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        if "\n" in text:
            return "".join(indent + line for line in text.splitlines(keepends=True))
        return super()._fill_text(text, width, indent)


def build_parser() -> Parser:
    """Return the parser; the chosen command names its function in ``run``."""
    parser = Parser(
        prog="convexnn",
        description=DESCRIPTION,
        epilog=EPILOG + "\n" + exit_codes(),
    )
    parser.add_argument("--version", action="version", version=f"convexnn {version_text()}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True, dest="command")
    for module in (define_training, define_proofs, define_tools):
        for define in module.COMMANDS:
            _add(commands, define)
    return parser


def _add(commands: Commands, define: Definition) -> None:
    parser = commands.add_parser(
        define.name,
        help=define.summary,
        description=define.description,
        epilog=f"examples:\n{define.examples.strip(chr(10))}\n\n{exit_codes()}",
    )
    parser.set_defaults(run=define.run)
    define.arguments(parser)
    _speaking(parser)


def _speaking(parser: argparse.ArgumentParser) -> None:
    """Options that every command has."""
    group = parser.add_argument_group("what is printed")
    group.add_argument("--json", action="store_true", help="one JSON object on stdout and nothing else there")
    group.add_argument("-q", "--quiet", action="store_true", help="no progress and no warnings on stderr")
    group.add_argument("-v", "--verbose", action="store_true", help="more: what the library logs, on stderr")


def exit_codes() -> str:
    """The exit codes as the help shows them."""
    return "exit codes:\n" + "".join(f"  {code:<4}{meaning}\n" for code, meaning in MEANING.items())


def version_text() -> str:
    """The version of the installed package."""
    try:
        return version("convexnn")
    except PackageNotFoundError:
        return "(not installed)"
