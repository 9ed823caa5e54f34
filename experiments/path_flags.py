"""Flags that take a path."""

from absl import flags

from plumbline.files import expand_home


class _PathParser(flags.ArgumentParser[str]):
    """Takes any text, and replaces `~` at its beginning: a shell leaves it as it is in `--workdir=~/runs`."""

    def parse(self, argument: str) -> str:
        return expand_home(argument)


def define_path(name: str, default: str | None, description: str) -> flags.FlagHolder:
    """Defines a flag that takes a path; arguments as those of `flags.DEFINE_string`."""
    return flags.DEFINE(_PathParser(), name, default, description)


def define_paths(name: str, description: str) -> flags.FlagHolder:
    """Defines a flag that takes a path and may be given several times."""
    return flags.DEFINE_multi(_PathParser(), flags.ArgumentSerializer(), name, [], description)
