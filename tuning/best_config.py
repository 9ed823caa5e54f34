"""The best trial's config as a file that `plumbline train --config` takes."""

import importlib.util
import json
import pathlib
from collections.abc import Mapping
from typing import Any

import ml_collections

from plumbline.files import write_text
from trainers.settings import fields


def write(
    path: pathlib.Path,
    *,
    base: pathlib.Path,
    argument: str | None,
    base_config: ml_collections.ConfigDict,
    config: ml_collections.ConfigDict,
    overrides: Mapping[str, Any],
    found: str,
) -> None:
    """Writes it. It imports the base config and sets what the command line and the trial changed.

    Args:
      path: of the file.
      base: the file of --config.
      argument: what was given after its colon, or None.
      base_config: what that file returns.
      config: that of the search.
      overrides: of the trial.
      found: a line that says what this is.
    """
    before = fields(base_config)
    changed = {name: value for name, value in fields(config).items() if before.get(name) != value} | dict(overrides)
    lines = [
        f'"""{found}',
        "",
        f"plumbline train --config={path} --workdir=DIR",
        '"""',
        "",
        *_import(base),
        "",
        "",
        "def get_config():",
        f"    config = base.get_config({'' if argument is None else json.dumps(argument)})",
        *(f"    config.{name} = {value!r}" for name, value in sorted(changed.items())),
        "    return config",
    ]
    write_text(path, "\n".join(lines) + "\n")


def _import(base: pathlib.Path) -> list[str]:
    spec = importlib.util.find_spec(f"configs.{base.stem}") if base.stem.isidentifier() else None
    if spec is not None and pathlib.Path(spec.origin).resolve() == base.resolve():
        return [f"from configs import {base.stem} as base"]
    return [
        "import importlib.util",
        "",
        f"_SPEC = importlib.util.spec_from_file_location('base', {str(base.resolve())!r})",
        "base = importlib.util.module_from_spec(_SPEC)",
        "_SPEC.loader.exec_module(base)",
    ]
