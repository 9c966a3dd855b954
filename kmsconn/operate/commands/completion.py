"""``kmsconn completion``: prints what makes a shell ask the parser which words may follow, and answers it."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from typing import Final

from kmsconn.operate.commands.endings import ExitStatus

EXAMPLES: Final = (
    "kmsconn completion bash > ~/.local/share/bash-completion/completions/kmsconn",
    "kmsconn completion zsh >> ~/.zshrc",
    "kmsconn completion fish > ~/.config/fish/completions/kmsconn.fish",
)

_BASH: Final = """\
_kmsconn() {
    local words=$(kmsconn completion words "${COMP_WORDS[@]:1:COMP_CWORD-1}" 2>/dev/null | cut -f 1)
    COMPREPLY=($(compgen -W "$words" -- "${COMP_WORDS[COMP_CWORD]}"))
}
complete -o default -F _kmsconn kmsconn"""

SCRIPTS: Final = {
    "bash": _BASH,
    "zsh": f"autoload -U +X compinit && compinit\nautoload -U +X bashcompinit && bashcompinit\n{_BASH}",
    "fish": "complete -c kmsconn -a '(kmsconn completion words (commandline -opc)[2..] 2>/dev/null)'",
}
"""What each shell reads; zsh takes that of bash through its own ``bashcompinit``."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Describe the argument."""
    words = "the shell that completes; its script asks for the words that may follow a line"
    parser.add_argument("shell", choices=(*SCRIPTS, "words"), help=words)
    parser.add_argument("line", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)


def execute(arguments: argparse.Namespace) -> int:
    """Print the script of a shell, or the words that may follow a line, one in a line, with what each is for."""
    from kmsconn.operate.commands.main import make_parser

    if arguments.shell in SCRIPTS:
        print(SCRIPTS[arguments.shell])
    else:
        parser = make_parser(arguments.line[0] if arguments.line else "")
        print(*(f"{word}\t{help_}" for word, help_ in following(parser, arguments.line)), sep="\n")
    return ExitStatus.WELL


def following(parser: argparse.ArgumentParser, line: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield the commands, choices and options that may follow a line of words, with what each is for."""
    for word in line:
        inner = (one.choices for one in parser._actions if isinstance(one, argparse._SubParsersAction))  # noqa: SLF001 - there is no other way to ask
        parser = next((choices[word] for choices in inner if word in choices), parser)
    actions = parser._actions  # noqa: SLF001 - likewise
    before = line[-1] if line else ""
    asked = [one for one in actions if before in one.option_strings and one.choices]
    for action in asked or actions:
        for choice in action.choices or () if asked or not action.option_strings else ():
            yield str(choice), _help_of(action, choice)
        yield from ((option, action.help or "") for option in action.option_strings if not asked)


def _help_of(action: argparse.Action, choice: object) -> str:
    """Return what a choice is for: of a command its own words."""
    named = {one.dest: one.help for one in getattr(action, "_choices_actions", ())}
    return named.get(str(choice)) or ""
