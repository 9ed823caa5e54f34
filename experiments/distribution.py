"""The flags by which the processes of one run find each other.

--distributed=auto|off|explicit   auto: join where a TPU pod, Slurm, a Kubernetes JobSet or Open MPI reports several
                                  processes; off: run alone; explicit: join as the next three flags say
--coordinator=HOST:PORT           address of process 0 for the other processes
--processes=N                     number of processes
--process-id=I                    index of this process, from 0
--initialization-timeout=SECONDS  how long to wait for all processes; 300 by default
"""

from collections.abc import Iterator
from contextlib import contextmanager

from absl import flags


def define_flags(default: str) -> None:
    """Defines the flags.

    Args:
      default: of `--distributed`.
    """
    flags.DEFINE_enum("distributed", default, ["auto", "off", "explicit"], "How to join other processes.")
    flags.DEFINE_string("coordinator", None, "Address of process 0.")
    flags.DEFINE_integer("processes", None, "Number of processes.")
    flags.DEFINE_integer("process-id", None, "Id of this process, from 0.")
    flags.DEFINE_float("initialization-timeout", 300.0, "Seconds to wait for all processes to arrive.")
    for name in ("process-id", "initialization-timeout"):
        flags.DEFINE_alias(name.replace("-", "_"), name)


@contextmanager
def join_processes() -> Iterator[None]:
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
