"""Metrics for TensorBoard."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

WriteScalars = Callable[[int, str, Mapping[str, float]], None]


@contextmanager
def scalar_writer(path: str | os.PathLike, step: int, *, enabled: bool) -> Iterator[WriteScalars]:
    """Yields a function `(step, split, metrics)` that writes scalars named `split/metric`.

    Args:
      path: folder of the events.
      step: where the run begins or resumes; later events, of a run that was stopped, are hidden.
      enabled: otherwise the function does nothing.
    """
    if not enabled:
        yield lambda step, split, metrics: None
        return

    import tensorboardX  # Imported here because it slows the start.

    writer = tensorboardX.SummaryWriter(str(path), purge_step=step + 1 if step else None)

    def write(step: int, split: str, metrics: Mapping[str, float]) -> None:
        for name, value in metrics.items():
            writer.add_scalar(f"{split}/{name}", value, step)

    try:
        yield write
    finally:
        writer.close()
