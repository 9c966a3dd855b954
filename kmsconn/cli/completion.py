"""``kmsconn completion``: prints what makes a shell complete commands, options and their choices, as the parser knows them."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any, Final

import attrs

from kmsconn.cli.endings import ExitStatus

SHELLS: Final = ("bash", "zsh", "fish")

EXAMPLES: Final = (
    "kmsconn completion bash > ~/.local/share/bash-completion/completions/kmsconn",
    "kmsconn completion zsh >> ~/.zshrc",
    "kmsconn completion fish > ~/.config/fish/completions/kmsconn.fish",
)


@attrs.frozen
class CommandWords:
    """What may follow a command: its own commands, its options, and the choices of the options that have some."""

    path: tuple[str, ...]
    commands: dict[str, str]
    options: dict[str, str]
    choices: dict[str, tuple[str, ...]]


def configure(parser: argparse.ArgumentParser) -> None:
    """Describe the argument."""
    parser.add_argument("shell", choices=SHELLS, help="the shell that completes")


def execute(arguments: argparse.Namespace) -> int:
    """Print the completions of the shell."""
    from kmsconn.cli.main import make_parser

    print(completions(make_parser(), arguments.shell))
    return ExitStatus.WELL


def completions(parser: argparse.ArgumentParser, shell: str) -> str:
    """Return what the shell reads. zsh takes that of bash through its own ``bashcompinit``."""
    words = list(words_of(parser))
    if shell == "fish":
        return "\n".join(_fish(words))
    head = (
        "autoload -U +X compinit && compinit\nautoload -U +X bashcompinit && bashcompinit\n"
        if shell == "zsh"
        else ""
    )
    return head + "\n".join(_bash(words))


def words_of(parser: argparse.ArgumentParser, path: tuple[str, ...] = ()) -> Iterator[CommandWords]:
    """Yield the words of a parser and of every command in it, the outer ones first."""
    commands: dict[str, str] = {}
    options: dict[str, str] = {}
    choices: dict[str, tuple[str, ...]] = {}
    inner: dict[str, argparse.ArgumentParser] = {}
    for action in parser._actions:  # noqa: SLF001 - argparse has no other way to ask
        options |= dict.fromkeys(action.option_strings, action.help or "")
        if isinstance(action.choices, dict):
            inner |= action.choices
            commands |= dict.fromkeys(inner, "") | _helps_of(action)
        elif action.choices and action.option_strings:
            choices |= dict.fromkeys(action.option_strings, tuple(map(str, action.choices)))
        elif action.choices:
            commands |= dict.fromkeys(map(str, action.choices), action.help or "")
    yield CommandWords(path, commands, options, choices)
    for name, one in inner.items():
        yield from words_of(one, (*path, name))


def _helps_of(action: Any) -> dict[str, str]:
    """Return the commands that an action takes, with what each is for."""
    return {one.dest: one.help or "" for one in action._get_subactions()}  # noqa: SLF001 - likewise


def _bash(words: list[CommandWords]) -> Iterator[str]:
    paths = " | ".join(f'"{" ".join(one.path)}"' for one in words if one.path)
    yield "_kmsconn() {"
    yield '    local path="" next="" word words=""'
    yield '    for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do'
    yield '        next="${path:+$path }$word"'
    yield f'        case "$next" in {paths}) path=$next ;; esac'
    yield "    done"
    yield '    case "$path" in'
    for one in words:
        yield f'        "{" ".join(one.path)}") words="{" ".join((*one.commands, *one.options))}" ;;'
    yield "    esac"
    yield '    case "$path ${COMP_WORDS[COMP_CWORD-1]}" in'
    for one in words:
        for option, values in one.choices.items():
            yield f'        "{" ".join((*one.path, option))}") words="{" ".join(values)}" ;;'
    yield "    esac"
    yield '    COMPREPLY=($(compgen -W "$words" -- "${COMP_WORDS[COMP_CWORD]}"))'
    yield '    [ "${#COMPREPLY[@]}" -gt 0 ] || COMPREPLY=($(compgen -f -- "${COMP_WORDS[COMP_CWORD]}"))'
    yield "}"
    yield "complete -F _kmsconn kmsconn"


def _fish(words: list[CommandWords]) -> Iterator[str]:
    yield "complete -c kmsconn -f -n 'not __fish_seen_argument -s c -l config'"
    for one in words:
        depth, place = len(one.path) + 1, " ".join(one.path)
        there = (
            f"contains -- '{place}' (string join ' ' -- (commandline -poc)[2..{depth}])" if place else "true"
        )
        last = f"test (count (commandline -poc)) -eq {depth}; and {there}"
        for name, help_ in one.commands.items():
            yield f"complete -c kmsconn -n {_quoted(last)} -a {name} -d {_quoted(help_)}"
        for option, help_ in one.options.items():
            form = f"-l {option[2:]}" if option.startswith("--") else f"-s {option[1:]}"
            values = f" -xa {_quoted(' '.join(one.choices[option]))}" if option in one.choices else ""
            yield f"complete -c kmsconn -n {_quoted(there)} {form}{values} -d {_quoted(help_)}"


def _quoted(text: str) -> str:
    """Quote a text for fish: within single quotes a backslash and a quote need one before them."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
