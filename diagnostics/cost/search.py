"""Variants of a config: changes that make it fit, and meshes and batch sizes that make it cheap."""

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import ml_collections

from diagnostics.cost.estimate import Estimate, make_estimate
from diagnostics.cost.prices import Price
from diagnostics.cost.program import Examples, make_training
from diagnostics.cost.target import Target
from plumbline import UserError
from plumbline.axes import AXES
from trainers.building import Training
from trainers.devices.mesh import make_mesh, num_batch_shards

# In order of their cost in time; the compiler reports how much memory each saves.
_REMAT = ("dots", "dots_without_batch", "full")
_ACCUMULATION = (2, 4, 8, 16)
_REMAT_MODELS = ("convnext", "resnet", "vit")
_BATCH_FACTORS = (1.0, 2.0, 0.5, 4.0)

Note = Callable[[str], None]
"""Is called with what is compiled next, and with its result."""


@dataclasses.dataclass(frozen=True)
class Tried:
    """A change of a config and its result.

    Attributes:
      changes: config fields and their values.
      estimate: None if the devices cannot run the config.
      reason: why not; "" if it does.
    """

    changes: dict[str, Any]
    estimate: Estimate | None
    reason: str = ""

    @property
    def text(self) -> str:
        """The changes as flags."""
        return " ".join(f"--config.{field}={value}" for field, value in self.changes.items())

    @property
    def outcome(self) -> str:
        """The result in a few words."""
        if self.estimate is None:
            return self.reason
        if not self.estimate.fits:
            return "does not fit"
        return f"{self.estimate.seconds:.3g} s a step, {self.estimate.hours:.3g} h"

    def to_json(self) -> dict[str, Any]:
        """As plain values: the changes, and the figures or the reason why there are none."""
        return {
            "changes": self.changes,
            "reason": self.reason,
            "estimate": None if self.estimate is None else self.estimate.to_json(),
        }


class Planner:
    """Makes estimates of variants of a config.

    Args:
      config: the config.
      examples: what it trains on.
      target: the devices.
      devices: as JAX knows them.
      price: of one.
      note: is called with what is compiled next, and with its result.
    """

    def __init__(
        self,
        config: ml_collections.ConfigDict,
        examples: Examples,
        target: Target,
        devices: Sequence[Any],
        price: Price,
        note: Note,
    ):
        self._config, self._examples, self._target = config, examples, target
        self._devices, self._price, self._note = devices, price, note

    def estimate(self, training: Training) -> Estimate:
        """Of a step over the devices."""
        return make_estimate(training, self._examples, self._target, self._devices, self._price)

    def remedies(self, most: int) -> list[Tried]:
        """Tries remat policies, then accumulation, then both, until one fits; at most `most` compilations.

        Returns:
          All that were tried; the last one fits, if any does.
        """
        tried: list[Tried] = []
        for changes in itertools.islice(self._remedies(), most):
            tried.append(self._try(changes, f"{len(tried) + 1}, until one fits"))
            if tried[-1].estimate is not None and tried[-1].estimate.fits:
                break
        return tried

    def search(self, most: int) -> tuple[list[Tried], int]:
        """Tries mesh shapes and batch sizes.

        Args:
          most: compilations; candidates that the devices cannot run need none.

        Returns:
          What was tried, the shortest run first (what does not fit or run last), and the number of candidates.
        """
        candidates, tried = list(self._candidates()), list[Tried]()
        for changes in candidates:
            compiled = sum(each.estimate is not None for each in tried)
            if compiled == most:
                break
            tried.append(self._try(changes, f"{compiled + 1} of {most} at most"))
        return sorted(tried, key=_hours), len(candidates)

    def _try(self, changes: dict[str, Any], number: str) -> Tried:
        config = self._config.copy_and_resolve_references()
        config.update_from_flattened_dict(changes)
        try:
            training = make_training(config, self._examples, self._devices)
        except UserError as error:
            tried = Tried(changes, None, str(error))
        else:
            self._note(f"compiling {number}: {Tried(changes, None).text} ...")
            tried = Tried(changes, self.estimate(training))
        self._note(f"{number}: {tried.outcome}")
        return tried

    def _remedies(self) -> Iterator[dict[str, Any]]:
        config = self._config
        policies = [
            {"model.remat": policy}
            for policy in _REMAT
            if config.model.name in _REMAT_MODELS and config.model.remat == "none"
        ]
        parts = num_batch_shards(make_mesh(config.mesh, self._devices))
        accumulation = [
            {"train.accumulation_steps": config.train.accumulation_steps * steps}
            for steps in _ACCUMULATION
            if config.train.batch_size % (parts * config.train.accumulation_steps * steps) == 0
        ]
        yield from policies
        yield from accumulation
        if policies:
            yield from ({**policies[-1], **steps} for steps in accumulation)

    def _candidates(self) -> Iterator[dict[str, Any]]:
        """The config's own batch on every mesh first, then other batches; those that cannot divide are left out."""
        batch_size, accumulation = self._config.train.batch_size, self._config.train.accumulation_steps
        for factor, sizes in itertools.product(_BATCH_FACTORS, _meshes(len(self._devices))):
            size = int(batch_size * factor)
            if size and size % (sizes[0] * sizes[1] * accumulation) == 0:
                yield {
                    **{f"mesh.{axis}": side for axis, side in zip(AXES, sizes, strict=True)},
                    "train.batch_size": size,
                }


def _meshes(devices: int) -> list[tuple[int, int, int]]:
    """Sizes of (data, fsdp, tensor): all data, all FSDP, FSDP over 8, and each of these with 2 to 8 along tensor."""
    found: dict[tuple[int, int, int], None] = {}
    for tensor in (1, 2, 4, 8):
        if devices % tensor:
            continue
        rest = devices // tensor
        for fsdp in (1, rest, math.gcd(rest, 8)):
            found[rest // fsdp, fsdp, tensor] = None
    return list(found)


def _hours(tried: Tried) -> float:
    if tried.estimate is None:
        return math.inf
    return tried.estimate.hours if tried.estimate.fits else 1e300
