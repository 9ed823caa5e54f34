"""The config of the best trial as a file for `plumbline train --config`."""

import dataclasses
import importlib.util
import json
import pathlib
from collections.abc import Mapping
from typing import Any

import ml_collections

from plumbline.files import write_text
from trainers.settings import fields


@dataclasses.dataclass(frozen=True, kw_only=True)
class BaseConfig:
    """The config file that a search starts from.

    Attributes:
      file: of --config.
      argument: the text after the colon of --config; None if there is none.
      config: what the file returns.
    """

    file: pathlib.Path
    argument: str | None
    config: ml_collections.ConfigDict


def write_best_config(
    path: pathlib.Path,
    *,
    base: BaseConfig,
    config: ml_collections.ConfigDict,
    overrides: Mapping[str, Any],
    description: str,
) -> None:
    """Writes a config file that imports the base config and sets what the command line and the trial changed.

    Args:
      path: of the file.
      base: the config file of the search.
      config: of the search.
      overrides: of the trial.
      description: first line of the docstring of the file.
    """
    before = fields(base.config)
    changed = {name: value for name, value in fields(config).items() if before.get(name) != value} | dict(overrides)
    lines = [
        f'"""{description}',
        "",
        f"plumbline train --config={path} --workdir=DIR",
        '"""',
        "",
        *_import_lines(base.file),
        "",
        "",
        "def get_config():",
        f"    config = base.get_config({'' if base.argument is None else json.dumps(base.argument)})",
        *(f"    config.{name} = {value!r}" for name, value in sorted(changed.items())),
        "    return config",
    ]
    write_text(path, "\n".join(lines) + "\n")


def _import_lines(base: pathlib.Path) -> list[str]:
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
