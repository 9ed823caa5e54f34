"""The flags by which the processes of one run find each other.

--distributed=auto|off|explicit   auto: join where a TPU pod, Slurm, a Kubernetes JobSet or Open MPI says that there
                                  are several processes; off: this process is alone; explicit: by the next three
--coordinator=HOST:PORT           process 0, as the others reach it
--processes=N                     how many processes there are
--process-id=I                    which of them this is, from 0
--initialization-timeout=SECONDS  how long to wait for all to come; 300 by default
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
    flags.DEFINE_integer("processes", None, "How many processes there are.")
    flags.DEFINE_integer("process-id", None, "Which of them this is.")
    flags.DEFINE_float("initialization-timeout", 300.0, "Seconds to wait for all to come.")
    for name in ("process-id", "initialization-timeout"):
        flags.DEFINE_alias(name.replace("-", "_"), name)


@contextmanager
def joined() -> Iterator[None]:
    """Joins by the flags; while the block runs, a process that ends by an error takes the others along.

    Raises:
      UserError: a flag is missing or wrong, or not all processes have come in time.
    """
    from trainers.processes import cluster_detection
    from trainers.processes.coordination import Watchdog

    values = flags.FLAGS
    cluster_detection.join(
        cluster_detection.Joining(
            mode=values["distributed"].value,
            coordinator=values["coordinator"].value,
            processes=values["processes"].value,
            process_id=values["process-id"].value,
            initialization_timeout=values["initialization-timeout"].value,
        )
    )
    with Watchdog():
        yield
