"""Completion of the `plumbline` command in bash, zsh and fish.

The shell's script calls `plumbline --complete=SHELL LINE` with the line up to the cursor. Flags are read from the
command's source, and names of models, optimizers and the like from the source of their table. Nothing of that is
imported, so an answer takes a tenth of a second.
"""

import ast
import functools
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence

from plumbline import UserError, unknown_name
from plumbline.exit_codes import DONE
from plumbline.public.commands import COMMANDS
from plumbline.rooms import CHECKOUT

# Flags whose values are known, and fields and flags that name an entry of a table: the file with the table, its name
# there, and names that are possible besides.
_VALUES = {"split": ("train", "validation", "test")}
_TABLES = {
    "sampler": ("tuning/samplers.py", "_MAKE", ()),
    "config.model.name": ("models/registry.py", "REGISTRY", ("pretrained",)),
    "config.objective.name": ("trainers/step/objectives.py", "OBJECTIVES", ("auto",)),
    "config.optimizer.name": ("trainers/step/optimizers.py", "OPTIMIZERS", ()),
    "config.schedule.name": ("trainers/step/schedules.py", "_AFTER_WARMUP", ()),
}
_SCRIPTS = {
    # bash cuts words at "=" and ":" and replaces only the last part.
    "bash": """\
_plumbline() {
    local IFS=$'\\n'
    COMPREPLY=($(plumbline --complete=bash "${COMP_LINE:0:COMP_POINT}" 2>/dev/null))
    [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *[=/.:] ]] && compopt -o nospace
}
complete -o nosort -F _plumbline plumbline
""",
    "zsh": """\
#compdef plumbline
_plumbline() {
    local -a found open closed
    found=(${(f)"$(plumbline --complete=zsh "${BUFFER[1,CURSOR]}" 2>/dev/null)"})
    open=(${(M)found:#*[=/.:]})
    closed=(${found:#*[=/.:]})
    compadd -Q -S '' -a open
    compadd -Q -a closed
}
compdef _plumbline plumbline
""",
    "fish": """\
complete -c plumbline -f -a '(plumbline --complete=fish (commandline -cp))'
""",
}


def answer(flag: str, words: Sequence[str]) -> int:
    """Prints the script of a shell, or the candidates for a line.

    Args:
      flag: `--completion=SHELL` or `--complete=SHELL`.
      words: after it; of `--complete`, the line up to the cursor.

    Returns:
      The exit code.

    Raises:
      UserError: there is no such shell or flag.
    """
    name, _, shell = flag.partition("=")
    if name not in ("--completion", "--complete"):
        raise UserError(f"unknown flag '{flag}'; see plumbline --help")
    if shell not in _SCRIPTS:
        raise unknown_name(name, shell, _SCRIPTS)
    if name == "--completion":
        print(_SCRIPTS[shell], end="")
        return DONE
    line = words[0] if words else ""
    last = last_word(line)
    for candidate in candidates(line):
        print(candidate[_cut(last) :] if shell == "bash" else candidate)
    return DONE


def candidates(line: str) -> list[str]:
    """What the last word of a line may become.

    Args:
      line: up to the cursor, with the word `plumbline` at its start.

    Returns:
      Whole words. One that ends in "=", "/" or "." is completed further.
    """
    words, last = line.split()[1:], last_word(line)
    if last:
        words = words[:-1]
    if not words:
        return [name for name in (*COMMANDS, "--help", "--completion=", "--version") if name.startswith(last)]
    command = words[0].replace("-", "_")
    if command not in COMMANDS:
        return []
    flags = _flags(command)
    name, has_value, value = last.partition("=")
    if not has_value and last.startswith("--config.") and "config" in flags:
        return _fields(last.removeprefix("--config."))
    if not has_value and last.startswith("-"):
        names = {f"--{flag}" + ("" if choices == ("true", "false") else "=") for flag, choices in flags.items()}
        if "config" in flags:
            names.add("--config.")
        return sorted(flag for flag in names | {"--help"} if flag.startswith(last))
    flag = name.removeprefix("--") if has_value else ""
    if has_value and (choices := _choices(flag, flags)):
        return [f"{name}={choice}" for choice in choices if choice.startswith(value)]
    if not has_value:
        return _paths(last)
    found = _paths(value, only=".py" if flag == "config" else "")
    if flag == "config" and not found:
        found = [path for path in _shipped_configs() if path.startswith(value)]
    return [f"{name}={path}" for path in found]


def _choices(flag: str, flags: Mapping[str, Sequence[str]]) -> Sequence[str]:
    """The values that a flag or a config field may have; () where they are not known."""
    if flag.startswith("config."):
        return _field_values(flag) if "config" in flags else ()
    if flag not in flags:
        return ()
    return _table_names(flag) if flag in _TABLES else flags[flag] or _VALUES.get(flag, ())


def last_word(line: str) -> str:
    """The word at the cursor; "" after a space."""
    return "" if not line or line[-1].isspace() else line.split()[-1]


def _cut(word: str) -> int:
    """How much of a word bash leaves in place."""
    return max(word.rfind("="), word.rfind(":")) + 1


@functools.cache
def _flags(command: str) -> dict[str, tuple[str, ...]]:
    """The flags of a command, each with the values it may have; () where they are not known."""
    found: dict[str, tuple[str, ...]] = {}
    source = (CHECKOUT / "experiments" / f"{command}.py").read_text(encoding="utf-8")
    sources = [source]
    if "distribution.define_flags" in source:
        sources.append((CHECKOUT / "experiments" / "distribution.py").read_text(encoding="utf-8"))
    for text in sources:
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args:
                found |= _flag(node)
    return found


def _flag(call: ast.Call) -> dict[str, tuple[str, ...]]:
    """The flag that a call defines, as in `_flags`; {} if it defines none."""
    kind, name = call.func.attr, call.args[0]
    if not kind.startswith("DEFINE_") or kind == "DEFINE_alias" or not isinstance(name, ast.Constant):
        return {}
    if kind == "DEFINE_bool":
        return {name.value: ("true", "false")}
    if kind == "DEFINE_enum" and isinstance(call.args[2], ast.List):
        return {name.value: tuple(choice.value for choice in call.args[2].elts)}
    return {name.value: ()}


def _field_values(flag: str) -> Sequence[str]:
    """The values that a config field may have; () where they cannot be listed."""
    from configs.defaults import FIELDS

    field = FIELDS.get(flag.removeprefix("config."))
    if field is None:
        return ()
    if flag in _TABLES:
        return _table_names(flag)
    if isinstance(field.default, bool):
        return ("True", "False")
    return field.check.choices if field.check else ()


def _table_names(flag: str) -> tuple[str, ...]:
    """The keys of a dict in the source of a module, which is not imported, and the other names that are possible."""
    file, table, others = _TABLES[flag]
    for node in ast.parse((CHECKOUT / file).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.AnnAssign) and node.target.id == table:
            return (*(key.value for key in node.value.keys), *others)
    raise LookupError(f"{file} has no table {table}")


def _fields(path: str) -> list[str]:
    """The config fields that a path may become, one section deeper than it."""
    import ml_collections

    from configs import defaults

    *above, begun = path.split(".")
    section = defaults.get_config()
    for name in above:
        section = section.get(name) if isinstance(section, ml_collections.ConfigDict) else None
        if section is None:
            return []
    if not isinstance(section, ml_collections.ConfigDict):
        return []
    where = "".join(f"{name}." for name in above)
    ends = {
        name: "." if isinstance(value, ml_collections.ConfigDict) else "="
        for name, value in section.items()
        if name.startswith(begun)
    }
    return [f"--config.{where}{name}{end}" for name, end in sorted(ends.items())]


def _paths(begun: str, only: str = "") -> list[str]:
    """Files (with this suffix) and folders, these with a slash at their end."""
    folder, begun = os.path.split(begun)
    try:
        entries = sorted(pathlib.Path(folder or ".").expanduser().iterdir())
    except OSError:
        return []
    entries = [entry for entry in entries if entry.name.startswith(begun) and (begun or entry.name[0] != ".")]
    folders = [f"{entry.name}/" for entry in entries if entry.is_dir()]
    files = [entry.name for entry in entries if entry.is_file() and entry.name.endswith(only)]
    return [os.path.join(folder, name) for name in folders + files]  # noqa: PTH118 - "./x" stays "./x".


def _shipped_configs() -> Iterator[str]:
    for path in sorted((CHECKOUT / "configs").glob("*.py")):
        if path.stem not in ("__init__", "arguments", "defaults", "fields"):
            yield f"configs/{path.name}"
