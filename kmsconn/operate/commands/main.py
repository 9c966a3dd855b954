"""The command line: finds the command, runs it, turns what ends it into words and an exit status. Knows nothing else.

A command stands in ``COMMANDS`` of a module of this package, or of the emulator's commands. Only the module of the command that is run
is imported.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from kmsconn import __version__
from kmsconn.errors import ConfigError, Fault, StartRefused
from kmsconn.extras import is_installed, require_extra
from kmsconn.operate.commands.command import CliCommand, ExitStatus, crash_report, only

if TYPE_CHECKING:
    from kmsconn.operate.commands.operators import Operator

COMMANDS: Final = {
    "run": "run the connector until SIGTERM or SIGINT",
    "validate": "check the configuration without starting anything",
    "doctor": "examine everything that the configuration names, and say what is wrong and what to do",
    "config": "explain the configuration, or make one file of those of the three services of 0.14",
    "health": "ask a running connector whether it is healthy",
    "status": "show how the connector is, on one screen",
    "explain": "tell what became of a request, what it waits for and what comes next",
    "audit": "verify or export an audit log",
    "journal": "copy a journal from one database into another",
    "requests": "list, show or retry requests",
    "top": "show a running connector in the terminal, live",
    "quarantine": "list, show, retry or drop undecodable logs and quarantined requests",
    "pause": "stop working on a kind of requests, also after a restart",
    "resume": "work on a paused kind of requests again",
    "skip": "end a request for good",
    "replay": "compare the reply to a request with what its recorded inputs give now",
    "list": "list the configuration files of KMS_CONNECTOR_CONFIG_DIR, or of config/environments",
    "emulate": "serve emulated chains, Core and buckets under a load, and write the configuration of their connector",
    "demo": "run a connector with emulated dependencies in one process",
    "completion": "print what makes a shell complete the commands",
}

EMULATED: Final = frozenset({"emulate", "demo"})
"""Commands of ``kmsconn.emulator.commands``: nothing of the product imports them."""

_MODULES: Final = {
    name: module
    for module, names in {
        "configuration": "validate config list", "checking": "doctor health top", "journal": "audit",
        "operators": "status explain requests quarantine pause resume skip replay",
    }.items()
    for name in names.split()
}  # fmt: skip
"""Where a command stands, if not in the module of its name."""

ALIASES: Final = {"start": "run"}
"""Names of the services of 0.14 for our commands."""


_EXAMPLES: Final = """\
kmsconn run -c kmsconn.toml
kmsconn run --network testnet    # the rest from KMS_CONNECTOR_… variables

kmsconn validate -c kmsconn.toml
kmsconn validate -c kmsconn.toml --network mainnet

kmsconn doctor -c kmsconn.toml
kmsconn doctor --network testnet --json

kmsconn config explain -c kmsconn.toml
kmsconn config import gw-listener.toml kms-worker.toml tx-sender.toml -o kmsconn.toml

kmsconn health
kmsconn health --endpoint /liveness

kmsconn status -c kmsconn.toml
kmsconn status -c kmsconn.toml --json

kmsconn explain -c kmsconn.toml ID
kmsconn explain -c kmsconn.toml ID --json

kmsconn audit verify audit.jsonl.000001 audit.jsonl
kmsconn audit export audit.jsonl --since 2026-01-01 --kind user_decryption --csv

kmsconn journal copy sqlite:////var/lib/kmsconn/kmsconn.db postgresql://kmsconn@db/kmsconn --to-password-file /etc/kmsconn/password
kmsconn journal copy postgresql://kmsconn@db/kmsconn sqlite:///kmsconn.db    # the password by PGPASSFILE

kmsconn requests list -c kmsconn.toml --state failed
kmsconn requests show -c kmsconn.toml ID
kmsconn requests retry -c kmsconn.toml --state failed

kmsconn top -c kmsconn.toml
kmsconn top --socket /run/kmsconn/control.sock
kmsconn top --url http://127.0.0.1:9100

kmsconn quarantine list -c kmsconn.toml
kmsconn quarantine show -c kmsconn.toml NAME
kmsconn quarantine retry -c kmsconn.toml NAME
kmsconn quarantine drop -c kmsconn.toml NAME --reason "a test of the contract"

kmsconn pause -c kmsconn.toml user_decryption
kmsconn pause -c kmsconn.toml user_decryption --reason "the Core is upgraded"

kmsconn resume -c kmsconn.toml user_decryption

kmsconn skip -c kmsconn.toml ID --reason "its ciphertext is lost"

kmsconn replay -c kmsconn.toml ID --dry-run
kmsconn replay -c kmsconn.toml ID    # asks the Core too, through the running connector

kmsconn list
kmsconn list --full-path

kmsconn emulate --write-config emu.toml --rate 5
kmsconn run -c emu.toml    # in a second shell
kmsconn emulate --write-config emu.toml --members 4    # emu-1.toml to emu-4.toml
kmsconn emulate --write-config emu.toml --core http://127.0.0.1:50051 --signer 0x5D8BD78e2ea6bbE41f26dFe9fdaEAa349e077478

kmsconn demo
kmsconn demo --requests 200 --rate 20

kmsconn completion bash > ~/.local/share/bash-completion/completions/kmsconn
kmsconn completion zsh >> ~/.zshrc
kmsconn completion fish > ~/.config/fish/completions/kmsconn.fish"""

EXAMPLES: Final = {lines.split()[1]: lines.splitlines() for lines in _EXAMPLES.split("\n\n")}
"""What the help of each command ends with."""


def make_parser(only_command: str | None = None) -> argparse.ArgumentParser:
    """Return the parser of all commands; with ``only_command`` the others are named, and take no arguments."""
    parser = argparse.ArgumentParser(prog="kmsconn", description="Connects a KMS Core to the fhEVM gateway.")
    parser.add_argument("--version", action="version", version=f"kmsconn {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, words in COMMANDS.items():
        aliases = [alias for alias, meant in ALIASES.items() if meant == name]
        command = commands.add_parser(
            name, aliases=aliases, help=words, description=words, formatter_class=argparse.RawDescriptionHelpFormatter,
        )  # fmt: skip
        there = name not in EMULATED or is_installed("emulator")
        if only_command in (name, *aliases) or (only_command is None and there):
            _configure(name, command)
    return parser


def command_of(name: str) -> CliCommand | Operator:
    """Return a command, from its module. Raises ExtraMissing where it needs what is not installed."""
    if name == "completion":
        return _COMPLETION
    if name in EMULATED:
        require_extra("emulator", f"kmsconn {name}")
    package = "kmsconn.emulator.commands" if name in EMULATED else "kmsconn.operate.commands"
    module = importlib.import_module(f"{package}.{_MODULES.get(name, name)}")
    found: CliCommand | Operator = module.COMMANDS[name]
    return found


def _configure(name: str, parser: argparse.ArgumentParser) -> None:
    command = command_of(name)
    command.configure(parser)
    parser.epilog = "\n".join(("examples:", *(f"  {line}" for line in EXAMPLES[name])))
    parser.set_defaults(execute=command.execute)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return the exit status (docs/options.md names them). Wrong usage exits with 2 at once.

    SIGINT before a command heeds it, and a reader that closes standard output early, end the command without a word, with the
    statuses that a shell gives to the signals.
    """
    words = sys.argv[1:] if argv is None else argv
    try:
        status = _run(words)
        sys.stdout.flush()
    except BrokenPipeError:
        # what Python flushes as it ends goes nowhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitStatus.BROKEN_PIPE
    except KeyboardInterrupt:
        return ExitStatus.INTERRUPTED
    return status


def _run(words: Sequence[str]) -> int:
    try:
        arguments = make_parser(words[0] if words else None).parse_args(words)
        status: int = arguments.execute(arguments)
    except ConfigError as error:
        return _say_faults(error.faults)
    except StartRefused as error:
        return _say_refused(error)
    except BaseExceptionGroup as group:
        return _say_group(group)
    return status


def _say_faults(faults: Sequence[Fault]) -> int:
    number = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
    _say(f"{number} in the configuration:")
    for fault in faults:
        print(f"  {fault}", file=sys.stderr)
    return ExitStatus.WRONG_USAGE


def _say_refused(*errors: StartRefused) -> int:
    for error in errors:
        _say(f"refused to start: {error}")
    return ExitStatus.REFUSED


def _say_group(group: BaseExceptionGroup[BaseException]) -> int:
    """Trio gathers errors in groups: one that holds nothing but faults, or refusals, ends as these do; everything else is a crash."""
    if errors := only(ConfigError, group):
        return _say_faults([fault for error in errors for fault in error.faults])
    if refusals := only(StartRefused, group):
        return _say_refused(*refusals)
    if only(KeyboardInterrupt, group):
        return ExitStatus.INTERRUPTED
    _say(crash_report(group))
    return ExitStatus.CRASHED


def _say(text: str) -> None:
    print(f"kmsconn: {text}", file=sys.stderr)


# --- completion


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


def configure_completion(parser: argparse.ArgumentParser) -> None:
    """Describe the argument."""
    words = "the shell that completes; its script asks for the words that may follow a line"
    parser.add_argument("shell", choices=(*SCRIPTS, "words"), help=words)
    parser.add_argument("line", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)


def completion(arguments: argparse.Namespace) -> int:
    """Print the script of a shell, or the words that may follow a line, one in a line, with what each is for."""
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


_COMPLETION: Final = CliCommand(configure_completion, completion)


if __name__ == "__main__":
    sys.exit(main())
