"""The flags that connect the processes of one run.

--distributed=auto|off|explicit   auto: join the processes of a TPU pod, Slurm step, JobSet or mpirun, if any;
                                  off: run this process alone; explicit: use the next three flags
--coordinator=HOST:PORT           address at which the others reach process 0
--processes=N                     number of processes
--process-id=I                    id of this process, from 0
--initialization-timeout=SECONDS  time to wait for all processes to arrive; 300 by default
"""

from collections.abc import Iterator
from contextlib import contextmanager

from absl import flags


def define_flags(default: str) -> None:
    """Defines the flags.

    Args:
      default: what `--distributed` is unless given.
    """
    flags.DEFINE_enum("distributed", default, ["auto", "off", "explicit"], "Whether and how to join other processes.")
    flags.DEFINE_string("coordinator", None, "HOST:PORT of process 0.")
    flags.DEFINE_integer("processes", None, "Number of processes.")
    flags.DEFINE_integer("process-id", None, "Id of this process, from 0.")
    flags.DEFINE_float("initialization-timeout", 300.0, "Seconds to wait for all processes to arrive.")
    for name in ("process-id", "initialization-timeout"):
        flags.DEFINE_alias(name.replace("-", "_"), name)


@contextmanager
def joined() -> Iterator[None]:
    """Joins the processes according to the flags. An error of one process in the block ends all of them.

    Raises:
      UserError: a flag is missing or invalid, or a process did not arrive in time.
    """
    from trainers.processes.coordination import Watchdog
    from trainers.processes.join import ClusterSettings, join

    values = flags.FLAGS
    join(
        ClusterSettings(
            mode=values["distributed"].value,
            coordinator=values["coordinator"].value,
            processes=values["processes"].value,
            process_id=values["process-id"].value,
            initialization_timeout=values["initialization-timeout"].value,
        )
    )
    with Watchdog():
        yield
