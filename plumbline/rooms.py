"""Where Plumbline's own top-level packages and configs are, and the error for a package that hides one of ours."""

import importlib.util
import pathlib

CHECKOUT = pathlib.Path(__file__).resolve().parent.parent
ROOMS = ("configs", "data", "models", "trainers", "diagnostics", "tuning", "reporting", "launching", "experiments")


def hidden_room() -> str:
    """Describes the first package that hides one of Plumbline's own, in one line; "" if none does.

    `python -m` and scripts put a folder of their own first on the import path. A package or a module there, such as
    `data/__init__.py` or `models.py`, is imported in place of Plumbline's; a folder without `__init__.py` is not.
    """
    for room in ROOMS:
        found = _location(room)
        if found is None or found == CHECKOUT / room / "__init__.py":
            continue
        if found.is_dir():
            return f"folder '{found}' hides Plumbline's package '{room}'; install Plumbline again: make install"
        owner = found.parent if found.name == "__init__.py" else found
        return (
            f"'{owner}' hides Plumbline's package '{room}'; rename it, or take '{owner.parent}' off the import path "
            "(the command `plumbline` leaves out the current folder)"
        )
    return ""


def find_in_checkout(config: str) -> str:
    """The path of a config file: as given where there is such a file, else below the checkout if it is there.

    Args:
      config: FILE or FILE:ARGUMENT, relative to the current folder.
    """
    name, colon, argument = config.partition(":")
    if pathlib.Path(name).is_file() or not (CHECKOUT / name).is_file():
        return config
    return f"{CHECKOUT / name}{colon}{argument}"


def _location(room: str) -> pathlib.Path | None:
    """The file that `import room` runs, or the folder if it has none; None if there is no such package."""
    try:
        spec = importlib.util.find_spec(room)
    except ValueError:  # A module made by hand, without a spec.
        return None
    if spec is None:
        return None
    if spec.has_location:
        return pathlib.Path(spec.origin).resolve()
    return next((pathlib.Path(folder).resolve() for folder in spec.submodule_search_locations or ()), None)
