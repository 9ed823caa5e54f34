"""What was done with each parameter and each tensor."""

import dataclasses
import math

from rich.table import Table

from plumbline import counted

_LISTED = 4


@dataclasses.dataclass(frozen=True)
class Loaded:
    """A parameter that was loaded: its path and shape, the name and type in the source; how it was resized, or ""."""

    path: str
    shape: tuple[int, ...]
    name: str
    dtype: str
    resized: str = ""


@dataclasses.dataclass(frozen=True)
class Fresh:
    """A parameter that starts as in a model without a source: its path and shape, and why."""

    path: str
    shape: tuple[int, ...]
    reason: str


@dataclasses.dataclass(frozen=True)
class Unused:
    """A tensor of the source that no parameter took: its name and shape, and why."""

    name: str
    shape: tuple[int, ...]
    reason: str


@dataclasses.dataclass(frozen=True)
class Report:
    """What came from where.

    Attributes:
      source: the path it was read from.
      kind: what the weights are, such as "Hugging Face ViT".
      loaded: parameters (and statistics) that were loaded, those that were resized among them.
      fresh: parameters that were not.
      unused: tensors that were not.
    """

    source: str
    kind: str
    loaded: tuple[Loaded, ...]
    fresh: tuple[Fresh, ...]
    unused: tuple[Unused, ...]

    @property
    def resized(self) -> tuple[Loaded, ...]:
        """Of what was loaded, what was brought to another shape."""
        return tuple(each for each in self.loaded if each.resized)

    def summary(self) -> str:
        """One line for a log."""
        numbers = sum(math.prod(each.shape) for each in self.loaded)
        dtypes = "/".join(sorted({each.dtype for each in self.loaded})) or "nothing"
        parts = [f"{self.kind}: {numbers:,} numbers in {counted(len(self.loaded), 'parameter')} loaded ({dtypes})"]
        parts += [f"{each.path} resized {each.resized}" for each in self.resized]
        parts.append(f"fresh: {_listed([each.path for each in self.fresh])}")
        parts.append(f"unused: {_listed([each.name for each in self.unused])}")
        return "; ".join(parts)

    def table(self) -> Table:
        """All of it, a row for each parameter and each tensor that was left, to be printed by `rich`."""
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
