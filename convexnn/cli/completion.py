"""Completion scripts for shells, written from the parser: static, so that nothing runs while you type."""

from __future__ import annotations

import argparse
from argparse import Namespace
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from convexnn.cli.output import Output


@dataclass(frozen=True)
class Option:
    """An option: its names, its choices (if any), whether it takes a value, and what it does."""

    names: tuple[str, ...]
    choices: tuple[str, ...]
    takes: bool
    text: str


@dataclass(frozen=True)
class Command:
    """A command with its options and the choices of its positional arguments."""

    name: str
    text: str
    options: tuple[Option, ...]
    choices: tuple[str, ...]


def completion(arguments: Namespace, output: Output) -> int:
    """Print the script of a shell."""
    text = SCRIPTS[arguments.shell](list(commands()))
    output.result(shell=arguments.shell, script=text)
    if not output.json:
        output.write(text)
    return 0


def commands() -> Iterator[Command]:
    """Every command as the parser knows it."""
    from convexnn.cli.parser import build_parser

    actions = build_parser()._actions
    table = next(action for action in actions if isinstance(action, argparse._SubParsersAction))
    texts = {one.dest: one.help or "" for one in table._choices_actions}
    for name, parser in table.choices.items():
        options: list[Option] = []
        choices: list[str] = []
        for action in parser._actions:
            values = tuple(str(one) for one in action.choices or ())
            if action.option_strings:
                options.append(Option(tuple(action.option_strings), values, action.nargs != 0, action.help or ""))
            else:
                choices += values
        yield Command(name, texts[name], tuple(options), tuple(choices))


def bash(every: list[Command]) -> str:
    """Completion for bash 4 and later."""
    cases = []
    for command in every:
        values = [
            f'            {"|".join(option.names)}) words="{" ".join(option.choices)}"; valued=1 ;;'
            for option in command.options
            if option.choices
        ]
        files = [name for option in command.options if option.takes and not option.choices for name in option.names]
        values += [f"            {'|'.join(files)}) valued=1 ;;"] if files else []
        names = " ".join(name for option in command.options for name in option.names)
        cases.append(
            f'        {command.name})\n            options="{names}"; plain="{" ".join(command.choices)}"\n'
            + '            case "$previous" in\n'
            + "\n".join(f"    {line}" for line in values)
            + "\n            esac ;;\n"
        )
    return f"""\
# bash completion for convexnn, written by `convexnn completion bash`
_convexnn() {{
    local current="${{COMP_WORDS[COMP_CWORD]}}" previous="${{COMP_WORDS[COMP_CWORD-1]}}"
    local options="" plain="" words="" valued=""
    COMPREPLY=()
    if [ "$COMP_CWORD" -eq 1 ]; then
        COMPREPLY=($(compgen -W "{" ".join(one.name for one in every)} --help --version" -- "$current"))
        return
    fi
    case "${{COMP_WORDS[1]}}" in
{"".join(cases)}    esac
    if [ -n "$words" ]; then
        COMPREPLY=($(compgen -W "$words" -- "$current"))
    elif [ -z "$valued" ] && [ "${{current#-}}" != "$current" ]; then
        COMPREPLY=($(compgen -W "$options" -- "$current"))
    elif [ -z "$valued" ] && [ -n "$plain" ]; then
        COMPREPLY=($(compgen -W "$plain" -- "$current"))
    else
        compopt -o filenames 2>/dev/null
        COMPREPLY=($(compgen -f -- "$current"))
    fi
}}
complete -F _convexnn convexnn
"""


def zsh(every: list[Command]) -> str:
    """Completion for zsh, for a file ``_convexnn`` in ``$fpath``."""
    cases = []
    for command in every:
        lines = [f"'{name}[{_zsh(one.text)}]{_zsh_value(one)}'" for one in command.options for name in one.names]
        lines.append(f"'*::argument:({' '.join(command.choices)})'" if command.choices else "'*:file:_files'")
        cases.append(
            f"        {command.name})\n            _arguments \\\n                "
            + " \\\n                ".join(lines)
        )
    names = "\n".join(f"        '{one.name}:{_zsh(one.text)}'" for one in every)
    return f"""\
#compdef convexnn
# zsh completion for convexnn, written by `convexnn completion zsh`
_convexnn() {{
    local -a commands
    commands=(
{names}
    )
    if (( CURRENT == 2 )); then
        _describe 'command' commands
        return
    fi
    local command="${{words[2]}}"
    shift words
    (( CURRENT-- ))
    case "$command" in
{f" ;;{chr(10)}".join(cases)} ;;
    esac
}}
if [ "$funcstack[1]" = "_convexnn" ]; then
    _convexnn "$@"
else
    compdef _convexnn convexnn
fi
"""


def _zsh_value(option: Option) -> str:
    if option.choices:
        return f":value:({' '.join(option.choices)})"
    return ":value:_files" if option.takes else ""


def _zsh(text: str) -> str:
    """Text between brackets and single quotes."""
    for character in "\\[]:":
        text = text.replace(character, "\\" + character)
    return text.replace("'", "'\\''").replace("%%", "%")


def fish(every: list[Command]) -> str:
    """Completion for fish."""
    lines = ["# fish completion for convexnn, written by `convexnn completion fish`"]
    lines += [f"complete -c convexnn -n __fish_use_subcommand -f -a {one.name} -d {_fish(one.text)}" for one in every]
    for command in every:
        start = f"complete -c convexnn -n '__fish_seen_subcommand_from {command.name}'"
        for option in command.options:
            names = " ".join(f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}" for name in option.names)
            value = f" -x -a {_fish(' '.join(option.choices))}" if option.choices else " -r" if option.takes else ""
            lines.append(f"{start} {names}{value} -d {_fish(option.text)}")
        if command.choices:
            lines.append(f"{start} -f -a {_fish(' '.join(command.choices))}")
    return "\n".join(lines) + "\n"


def _fish(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'").replace("%%", "%") + "'"


SCRIPTS: dict[str, Callable[[list[Command]], str]] = {"bash": bash, "zsh": zsh, "fish": fish}
