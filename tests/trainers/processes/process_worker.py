"""One process of a run, for tests: joins the others and plays a role.

    python process_worker.py PORT PROCESSES PROCESS_ID ROLE [TIMEOUT]

Prints "ready" on stdout after it has joined and computed a sum with the others.
"""

import contextlib
import ctypes
import os
import signal
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from plumbline import UserError
from trainers.processes import coordination
from trainers.processes.join import ClusterSettings, join

HEARTBEAT_TIMEOUT = 6.0


def sum_over_processes():
    mesh = jax.make_mesh((jax.device_count(),), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    local = np.full(jax.local_device_count(), coordination.process_index() + 1.0, np.float32)
    whole = jax.make_array_from_process_local_data(NamedSharding(mesh, PartitionSpec("data")), local)
    return float(jax.jit(jnp.sum, out_shardings=NamedSharding(mesh, PartitionSpec()))(whole))


def steps_for_ever():
    while True:
        sum_over_processes()


def normal_end(me):
    time.sleep(3.0 * me)


def ends_preempted(me):
    return 42


def fails_alone(me):
    if me == 1:
        raise ValueError("a wheel came off")
    steps_for_ever()


def fails_inside_a_wait(me):
    with contextlib.ExitStack() as stack:
        stack.callback(time.sleep, 60)
        with coordination.fail_together():
            fails_alone(me)


def first_fails_alone(me):
    if me == 0:
        raise ValueError("a wheel came off")
    steps_for_ever()


def user_error_alone(me):
    if me == 1:
        raise UserError("data.source: no such folder")
    steps_for_ever()


def dies(me):
    if me == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    steps_for_ever()


def first_dies(me):
    if me == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)


def freezes(me):
    if me == 1:
        os.kill(os.getpid(), signal.SIGSTOP)
    steps_for_ever()


def first_freezes(me):
    if me == 0:
        os.kill(os.getpid(), signal.SIGSTOP)
    steps_for_ever()


def is_slow(me):
    """Holds the interpreter lock for less than the heartbeat timeout."""
    if me == 1:
        # Functions of a `PyDLL` keep the lock. A sleep does so for the same time on a busy machine.
        ctypes.PyDLL(None).usleep(3_000_000)


def agrees(me):
    coordination.agree({"config": {"seed": 3, "shape": (8, 8), "none": None, "nan": float("nan")}, "data": "abc"})
    assert coordination.broadcast({"began": 7 + me}) == {"began": 7}
    assert coordination.broadcast([me]) == [0]


def differs(me):
    coordination.agree({"config": {"seed": 3, "rate": 0.1 * (1 + me)}, "data": "abc"})


def lacks_a_fact(me):
    coordination.agree({"data": "abc", "step": None} if me == 0 else {"data": "abc"})


def finds_an_error(me):
    coordination.agree({"data": "abc"}, error="data.source: no such folder" if me == 1 else None)


def all_find_the_error(me):
    coordination.agree({}, error="train.batch_size: 0")


def never_comes(me):
    if me == 1:
        time.sleep(60)
    coordination.agree({}, timeout=1)


def main():
    port, count, me, role, *timeout = sys.argv[1:]
    join(
        ClusterSettings(
            mode="explicit",
            coordinator=f"127.0.0.1:{port}",
            processes=int(count),
            process_id=int(me),
            initialization_timeout=float(timeout[0]) if timeout else 60,
            heartbeat_timeout=HEARTBEAT_TIMEOUT,
        )
    )
    with coordination.Watchdog():
        total = sum_over_processes()
        assert coordination.process_count() == int(count)
        assert total == jax.local_device_count() * int(count) * (int(count) + 1) / 2
        print("ready", flush=True)
        return globals()[role](int(me))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
