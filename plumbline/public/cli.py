"""The `plumbline` command: `plumbline train ...` is `python -m experiments.train ...`, from any folder."""

import runpy
import sys
from collections.abc import Sequence

from plumbline import UserError, __version__, nearest
from plumbline.exit_codes import DONE, USER_ERROR
from plumbline.public.commands import COMMANDS, SECTIONS
from plumbline.rooms import CHECKOUT, hidden_room


def main() -> None:
    """Runs the command that the first word names, and exits with its code."""
    words = sys.argv[1:]
    try:
        code = _answer(words)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        code = USER_ERROR
    if code is not None:
        sys.exit(code)
    _run(words[0].replace("-", "_"), words[1:])


def overview() -> str:
    """The text of `plumbline --help`: a map from what a user wants to the command."""
    width = max(map(len, COMMANDS))
    lines = ["Usage: plumbline COMMAND [FLAGS]", "", "I want to ..."]
    for section, commands in SECTIONS.items():
        lines += ["", f"{section}:"]
        lines += [f"  plumbline {name:<{width}}  {what}" for name, what in commands.items()]
    lines += [
        "",
        "plumbline COMMAND --help describes a command and its flags.",
        "plumbline --completion=bash (or zsh, fish) prints a script that completes commands, flags and config fields.",
        "plumbline --version prints the version and the folder of the checkout.",
        "",
        f"The configs are in {CHECKOUT / 'configs'}; --config=configs/NAME.py finds them from any folder.",
    ]
    return "\n".join(lines)


def _answer(words: Sequence[str]) -> int | None:
    """Answers what needs no command and returns the exit code; None if the first word is a command.

    Raises:
      UserError: the first word is neither a command nor a flag of `plumbline` itself.
    """
    first = words[0] if words else "--help"
    if first in ("--help", "-h", "-help", "help"):
        print(overview())
        return DONE
    if first == "--version":
        print(f"plumbline {__version__} ({CHECKOUT})")
        return DONE
    if first.startswith(("--completion", "--complete")):
        from plumbline.public import completion

        return completion.answer(first, words[1:])
    if first.startswith("-"):
        raise UserError(f"'{first}': give the command first, as in plumbline train {first}; see plumbline --help")
    name = first.replace("-", "_")
    if name not in COMMANDS:
        near = nearest(name, COMMANDS)
        hint = f"did you mean '{near}'? " if near else ""
        raise UserError(f"unknown command '{first}'; {hint}see plumbline --help")
    if hidden := hidden_room():
        raise UserError(hidden)
    return None


def _run(name: str, words: Sequence[str]) -> None:
    """Runs a module of `experiments` as `python -m` does, but for the current folder on the import path."""
    from experiments import interruption

    interruption.listen()
    sys.argv = [f"plumbline {name}", *words]
    runpy.run_module(f"experiments.{name}", run_name="__main__", alter_sys=True)
