"""The report on each parameter and each tensor."""

import dataclasses
import math

from rich.table import Table

from plumbline import pluralize

_LISTED = 4


@dataclasses.dataclass(frozen=True)
class Loaded:
    """A loaded parameter: its path and shape, name and type in the source, and a note if it was resized."""

    path: str
    shape: tuple[int, ...]
    name: str
    dtype: str
    resized: str = ""


@dataclasses.dataclass(frozen=True)
class Fresh:
    """A parameter that was not loaded and has a new value: its path and shape, and the reason."""

    path: str
    shape: tuple[int, ...]
    reason: str


@dataclasses.dataclass(frozen=True)
class Unused:
    """A tensor of the source that was not used: its name and shape, and the reason."""

    name: str
    shape: tuple[int, ...]
    reason: str


@dataclasses.dataclass(frozen=True)
class Report:
    """The origin of all parameters.

    Attributes:
      source: path of the source.
      kind: type of the weights, such as "Hugging Face ViT".
      loaded: loaded parameters and batch statistics, including resized ones.
      fresh: parameters that were not loaded.
      unused: tensors that were not used.
    """

    source: str
    kind: str
    loaded: tuple[Loaded, ...]
    fresh: tuple[Fresh, ...]
    unused: tuple[Unused, ...]

    @property
    def resized(self) -> tuple[Loaded, ...]:
        """The loaded parameters that were resized."""
        return tuple(each for each in self.loaded if each.resized)

    def summary(self) -> str:
        """Returns one line for a log."""
        numbers = sum(math.prod(each.shape) for each in self.loaded)
        dtypes = "/".join(sorted({each.dtype for each in self.loaded})) or "nothing"
        parts = [f"{self.kind}: {numbers:,} numbers in {pluralize(len(self.loaded), 'parameter')} loaded ({dtypes})"]
        parts += [f"{each.path} resized {each.resized}" for each in self.resized]
        parts.append(f"fresh: {_listed([each.path for each in self.fresh])}")
        parts.append(f"unused: {_listed([each.name for each in self.unused])}")
        return "; ".join(parts)

    def table(self) -> Table:
        """Returns a table for `rich`, with a row for each parameter and each unused tensor."""
        table = Table(title=f"{self.kind} from {self.source}", title_justify="left", caption=self.summary())
        for column in ("", "parameter", "shape", "from", "note"):
            table.add_column(column, overflow="fold")
        for loaded in self.loaded:
            state = "resized" if loaded.resized else "loaded"
            note = ", ".join(filter(None, [loaded.dtype, loaded.resized]))
            table.add_row(state, loaded.path, _shape(loaded.shape), loaded.name, note)
        for fresh in self.fresh:
            table.add_row("fresh", fresh.path, _shape(fresh.shape), "", fresh.reason)
        for unused in self.unused:
            table.add_row("unused", "", _shape(unused.shape), unused.name, unused.reason)
        return table


def _shape(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "scalar"


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more if names else "none"
