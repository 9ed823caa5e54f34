"""What is too big for disk or memory is refused before anything is compiled, with the figures."""

import os
import pathlib
import shutil
import subprocess
import sys

import psutil
import pytest

from plumbline import UserError
from trainers.run import preflight

CHECKOUT = pathlib.Path(__file__).parents[3]
KIB, MIB, GIB = 2**10, 2**20, 2**30


def test_a_small_run_passes_and_makes_no_folder(tmp_path):
    workdir = tmp_path / "not" / "yet"
    preflight.check(workdir, state_bytes=KIB, best_bytes=KIB, keep=3, host_bytes=MIB)
    assert list(tmp_path.iterdir()) == []


def test_checkpoints_that_do_not_fit_the_disk_are_refused(tmp_path):
    free = shutil.disk_usage(tmp_path).free
    # A third of the disk each: one and the next would fit, three and the next do not.
    preflight.check(tmp_path, state_bytes=free // 4, best_bytes=free // 12, keep=1, host_bytes=0)
    with pytest.raises(UserError, match=r"needs .* for 4 checkpoints of .*; .* are free; .*train.keep_checkpoints"):
        preflight.check(tmp_path, state_bytes=free // 4, best_bytes=free // 12, keep=3, host_bytes=0)


def test_the_figures_of_the_disk_are_right(tmp_path):
    with pytest.raises(UserError, match=r"needs 4096\.0 TiB for 2 checkpoints of 2048\.0 TiB \("):
        preflight.check(tmp_path, state_bytes=2**50, best_bytes=2**50, keep=1, host_bytes=0)


def test_what_the_runs_checkpoints_take_already_counts_as_room_for_the_new(tmp_path):
    for name in ("7", "8.orbax-checkpoint-tmp", "damaged-9"):
        (tmp_path / "checkpoints" / name).mkdir(parents=True)
        (tmp_path / "checkpoints" / name / "array").write_bytes(os.urandom(2 * MIB))
    free = shutil.disk_usage(tmp_path).free
    with pytest.raises(UserError, match=r", of which 4\.0 MiB are used already; "):
        preflight.check(tmp_path, state_bytes=free, best_bytes=0, keep=1, host_bytes=0)


def test_more_memory_than_there_is_is_refused(tmp_path):
    total = psutil.virtual_memory().total
    with pytest.raises(UserError, match=rf"memory: the run takes about {total / GIB + 1:.1f} GiB .* are available"):
        preflight.check(tmp_path, state_bytes=1, best_bytes=1, keep=1, host_bytes=total + GIB)


def test_available_memory_is_no_more_than_the_machine_has():
    assert 0 < preflight.available_memory() <= psutil.virtual_memory().total


# Files as Linux writes them (Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst).
VERSION_2 = {
    "memory.max": f"{512 * MIB}\n",
    "memory.current": f"{400 * MIB}\n",
    "memory.stat": f"anon {300 * MIB}\nfile {100 * MIB}\ninactive_file {90 * MIB}\n",
}
VERSION_1 = {
    "memory.limit_in_bytes": f"{256 * MIB}\n",
    "memory.usage_in_bytes": f"{200 * MIB}\n",
    "memory.stat": f"cache {50 * MIB}\ninactive_file 0\ntotal_inactive_file {40 * MIB}\n",
}


@pytest.mark.parametrize(
    ("files", "left"),
    [
        (VERSION_2, 202 * MIB),
        (VERSION_1, 96 * MIB),
        ({**VERSION_2, "memory.current": f"{700 * MIB}\n"}, 0),
        ({**VERSION_2, "memory.max": "max\n"}, None),
        ({}, None),
    ],
)
def test_the_limit_of_a_control_group_counts(files, left, tmp_path, monkeypatch):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(preflight, "_groups", lambda: [tmp_path])
    if left is None:
        assert preflight.available_memory() > 256 * MIB
    else:
        assert preflight.available_memory() == left


def test_the_limit_of_a_real_control_group_counts():
    group = pathlib.Path("/sys/fs/cgroup/memory") / f"plumbline-{os.getpid()}"
    try:
        group.mkdir()
    except OSError:
        pytest.skip("needs root and a writable memory controller of version 1")
    try:
        (group / "memory.limit_in_bytes").write_text(str(512 * MIB))
        script = (
            f"import os, pathlib; pathlib.Path('{group}/cgroup.procs').write_text(str(os.getpid())); "
            "from trainers.run import preflight; print(preflight.available_memory())"
        )
        finished = subprocess.run(
            [sys.executable, "-c", script], cwd=CHECKOUT, capture_output=True, text=True, check=True
        )
        assert 256 * MIB < int(finished.stdout) < 512 * MIB
    finally:
        group.rmdir()
