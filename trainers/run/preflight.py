"""The disk space and memory that a run needs, checked before anything is compiled."""

import os
import pathlib
import shutil
from collections.abc import Iterator

import psutil

from plumbline import UserError
from trainers.building import Training
from trainers.devices.sharding import placements

_CGROUPS = pathlib.Path("/sys/fs/cgroup")


def check_training(workdir: str | os.PathLike, training: Training) -> None:
    """Checks that disk and host memory suffice for a training; raises what `check` raises.

    Args:
      workdir: the run directory; need not exist yet.
      training: that will run there.
    """
    state, params = (
        placements(tree, shardings)
        for tree, shardings in (
            (training.shapes, training.shardings),
            (training.shapes.inference(), training.shardings.inference()),
        )
    )
    # A save copies the part of this process. On CPU, the device memory is host memory too: the state, the best
    # parameters and a gradient.
    mesh = training.mesh
    state_bytes, params_bytes = (
        len(mesh.local_devices) * sum(p.device_bytes for p in group) for group in (state, params)
    )
    on_cpu = mesh.devices.flat[0].platform == "cpu"
    check(
        workdir,
        state_bytes=sum(p.total_bytes for p in state),
        best_bytes=sum(p.total_bytes for p in params),
        keep=training.config.train.keep_checkpoints,
        host_bytes=2 * state_bytes + 2 * params_bytes if on_cpu else state_bytes,
    )


def check(workdir: str | os.PathLike, *, state_bytes: int, best_bytes: int, keep: int, host_bytes: int) -> None:
    """Checks that disk and host memory suffice for a run.

    Disk: a checkpoint takes `state_bytes + best_bytes`, without compression. The run keeps `keep` of them and
    writes the next before it deletes the oldest, so it needs `keep + 1` times as much, minus the size of the run's
    own checkpoints that are there already. This is compared with the space that is free for this user on the file
    system of `workdir`.

    Memory: `host_bytes` is compared with the available memory of the system, or with what is left under the memory
    limit of the process's control group or a group above it, if that is less. File caches count as free.

    Args:
      workdir: the run directory; need not exist yet.
      state_bytes: bytes of the train state and the running metrics that this machine writes.
      best_bytes: bytes of the best parameters so far, which are in every checkpoint.
      keep: `train.keep_checkpoints`.
      host_bytes: bytes that the processes of the run will take on this machine.

    Raises:
      UserError: disk or memory do not suffice; the message says how much is needed, how much there is, and what to
        change.
    """
    _check_disk(pathlib.Path(workdir).absolute(), state_bytes + best_bytes, keep)
    if host_bytes > (available := available_memory()):
        raise UserError(
            f"memory: the run takes about {_size(host_bytes)} of host memory, {_size(available)} are available; "
            "make the model or train.batch_size smaller, free memory, or take a larger machine"
        )


def available_memory() -> int:
    """Bytes of host memory that this process can still take."""
    return max(min([psutil.virtual_memory().available, *_left_in_groups()]), 0)


def _check_disk(workdir: pathlib.Path, checkpoint_bytes: int, keep: int) -> None:
    needed = (keep + 1) * checkpoint_bytes
    there = _size_on_disk(workdir / "checkpoints")
    folder = next(path for path in (workdir, *workdir.parents) if path.exists())
    free = shutil.disk_usage(folder).free
    if needed - there > free:
        used = f", of which {_size(there)} are used already" if there else ""
        raise UserError(
            f"--workdir: '{workdir}' needs {_size(needed)} for {keep + 1} checkpoints of {_size(checkpoint_bytes)} "
            f"(train.keep_checkpoints and the next one){used}; {_size(free)} are free; free some, give another "
            "--workdir, or lower train.keep_checkpoints"
        )


def _size_on_disk(checkpoints: pathlib.Path) -> int:
    """Bytes of the checkpoints of the run, unfinished ones included. They are named by their steps."""
    total = 0
    for path in checkpoints.glob("[0-9]*"):
        for file in path.rglob("*"):
            try:
                total += file.lstat().st_blocks * 512
            except FileNotFoundError:
                continue
    return total


def _left_in_groups() -> Iterator[int]:
    """Bytes left under the memory limit of each control group that this process is in (Linux; versions 1 and 2)."""
    for group in _groups():
        for limit_name, used_name, cache in (
            ("memory.max", "memory.current", "inactive_file"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ):
            try:
                limit = (group / limit_name).read_text().strip()
                if limit == "max":
                    continue
                used = int((group / used_name).read_text())
                cached = dict(line.split() for line in (group / "memory.stat").read_text().splitlines()).get(cache, 0)
                yield int(limit) - used + int(cached)
            except OSError:
                continue


def _groups() -> Iterator[pathlib.Path]:
    try:
        lines = pathlib.Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers in ("", "memory"):
            root = _CGROUPS / controllers
            group = root / path.lstrip("/")
            yield group
            # In a container the path may be the host's; the root is then the container's own.
            yield from (parent for parent in group.parents if parent.is_relative_to(root))


def _size(number: float | int) -> str:
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if number < 1024 or unit == "TiB":
            break
        number /= 1024
    return f"{number:.0f} B" if unit == "B" else f"{number:.1f} {unit}"
