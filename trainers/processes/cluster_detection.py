"""How the processes of a run find one another: told by flags, or by the launcher that started them.

`join` must come before anything that touches a JAX backend.
"""

import dataclasses
import logging
import os
import re
import sys
import zlib
from collections.abc import Mapping

from plumbline import UserError
from trainers.processes.peer_channel import Links
from trainers.processes.rendezvous import call_roll, split_address

# The stated time: a process that has given no sign of life for so long ends all others; one whose connection is closed
# does at once. A thread of Python gives the signs, so that no call into C may hold the interpreter's lock for so long.
SILENCE_SECONDS = 20.0
# JAX's own watch, by which it aborts: later than ours, which says what has happened.
_HEARTBEAT_SECONDS = 30
# Once all have come, JAX's service has them in a moment. At the end, they leave it together as well.
_JAX_INIT_SECONDS = 60
_JAX_SHUTDOWN_SECONDS = 60

# As JAX has it, for hosts of a TPU pod.
_TPU_PORT = 8482
_JOBSET_PORT = 1234
# Above the ports that Linux gives to outgoing connections.
_FIRST_PORT, _NUM_PORTS = 61440, 4096

_joined: Links | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Joining:
    """What the user says about the processes of a run.

    Attributes:
      mode: "off": this process is alone. "explicit": all the rest is given. "auto": what a launcher says, see `detect`;
        alone if none says that there are several processes.
      coordinator: HOST:PORT of process 0, as the others reach it; the port must be free there. With "auto" it takes the
        place of the launcher's.
      processes: how many processes there are; for "explicit".
      process_id: which of them this is, from 0; for "explicit".
      initialization_timeout: seconds to wait for all to come.
      silence: seconds without a sign of life after which a process counts as dead and all others end.
    """

    mode: str = "auto"
    coordinator: str | None = None
    processes: int | None = None
    process_id: int | None = None
    initialization_timeout: float = 300.0
    silence: float = SILENCE_SECONDS


@dataclasses.dataclass(frozen=True, kw_only=True)
class Place:
    """Where a process stands among those of its run.

    Attributes:
      launcher: what says so.
      coordinator: HOST:PORT of process 0; None if the launcher does not tell.
      processes: how many processes there are.
      process_id: which of them this is.
      local_devices: which of the GPUs it sees are its own; None means all.
    """

    launcher: str
    coordinator: str | None
    processes: int
    process_id: int
    local_devices: tuple[int, ...] | None = None


def join(joining: Joining) -> None:
    """Joins this process with the others of its run, if there are any. To be called before JAX is used.

    From then on a process that ends takes the others down, as `trainers.processes.peer_channel` describes, unless they
    have come to the end of a `trainers.processes.coordination.Watchdog` together. What C and C++ libraries print on
    stdout goes to stderr, as gloo announces its connections there.

    Raises:
      UserError: flags are missing or wrong; the coordinator cannot be reached, or not all processes come, within
        `initialization_timeout`.
    """
    global _joined
    if _joined is not None:
        raise RuntimeError("join: this process has joined already")
    place = _place(joining, os.environ)
    if place is None:
        return
    setting = "--coordinator" if joining.coordinator else f"{place.launcher}'s coordinator"
    hosts, sockets = call_roll(
        place.coordinator,
        place.processes,
        place.process_id,
        timeout=joining.initialization_timeout,
        setting=setting,
    )
    links = Links(place.process_id, hosts, sockets, joining.silence)
    _keep_stdout_for_python()
    _without_proxy(split_address(place.coordinator)[0])
    import jax

    jax.config.update("jax_check_proxy_envs", False)
    jax.distributed.initialize(
        place.coordinator,
        place.processes,
        place.process_id,
        place.local_devices,
        cluster_detection_method="deactivate",
        initialization_timeout=_JAX_INIT_SECONDS,
        heartbeat_timeout_seconds=max(_HEARTBEAT_SECONDS, int(1.5 * joining.silence)),
        shutdown_timeout_seconds=_JAX_SHUTDOWN_SECONDS,
    )
    _joined = links


def joined() -> Links | None:
    """The links to the other processes; None if this one is alone."""
    return _joined


def detect(environment: Mapping[str, str]) -> Place | None:
    """What the launcher says, by environment variables; None if none says that there are several processes.

    - Open MPI (`mpirun`): OMPI_COMM_WORLD_SIZE and _RANK; the coordinator from OMPI_MCA_orte_hnp_uri (Open MPI 4), or
      this host if all processes are on it.
    - Slurm: a step of several tasks (`srun`), by SLURM_STEP_NUM_TASKS and SLURM_PROCID. What `sbatch` runs itself is
      no step, and stays alone.
    - JobSet on Kubernetes, or whatever sets JAX_COORDINATOR_ADDRESS: the number of processes from JAX_NUM_PROCESSES
      (Kubeflow), JAX_PROCESS_COUNT (xpk on CPUs) or NNODES (xpk on GPUs); which one from JAX_PROCESS_ID, JOB_INDEX with
      PROCESSES_IN_JOB, NODE_RANK, or JOB_COMPLETION_INDEX, which Kubernetes gives to the pods of an indexed job.
    - TPU on GKE: TPU_WORKER_HOSTNAMES and TPU_WORKER_ID; MEGASCALE_* for several slices.

    JAX_COORDINATOR_ADDRESS, HOST or HOST:PORT, takes the place of any launcher's; JAX_COORDINATOR_PORT gives its port.

    Args:
      environment: as `os.environ`.

    Raises:
      UserError: the variables say a part of it only.
    """
    for launcher in (_open_mpi, _slurm, _tpu_on_gke, _jobset):
        try:
            place = launcher(environment)
        except ValueError as error:
            if isinstance(error, UserError):
                raise
            raise UserError(
                f"--distributed=auto: a variable of the environment is no number ({error}); mend it, or say "
                "--distributed=off"
            ) from None
        if place:
            return _with_coordinator_of(environment, place) if place.processes > 1 else None
    return None


# ---- Which process this is.


def _place(joining: Joining, environment: Mapping[str, str]) -> Place | None:
    _check(joining)
    if joining.mode == "off":
        return None
    if joining.mode == "explicit":
        return Place(
            launcher="--distributed=explicit",
            coordinator=joining.coordinator,
            processes=joining.processes,
            process_id=joining.process_id,
        )
    place = detect(environment) or _tpu_pod(environment)
    if place is None:
        if joining.coordinator:
            raise UserError(
                "--coordinator: given, but no launcher says that there are several processes; "
                "say --distributed=explicit, with --processes and --process-id"
            )
        return None
    place = dataclasses.replace(place, coordinator=joining.coordinator or place.coordinator)
    if place.coordinator is None:
        raise UserError(
            f"--coordinator: {place.launcher} has started {place.processes} processes on several hosts, but does not "
            "say where process 0 is; give --coordinator=HOST:PORT, or --distributed=off to keep them apart"
        )
    return place


def _check(joining: Joining) -> None:
    if joining.mode not in ("auto", "off", "explicit"):
        raise UserError(f"--distributed: '{joining.mode}'; say auto, off or explicit")
    if joining.initialization_timeout <= 0:
        raise UserError(f"--initialization-timeout: {joining.initialization_timeout:g}; give seconds, more than 0")
    given = {
        "coordinator": joining.coordinator,
        "processes": joining.processes,
        "process-id": joining.process_id,
    }
    if joining.mode == "explicit":
        for flag, value in given.items():
            if value is None:
                raise UserError(
                    f"--{flag}: missing; --distributed=explicit takes --coordinator, --processes and --process-id"
                )
        if joining.processes < 1:
            raise UserError(f"--processes: {joining.processes}; there is at least one")
        if not 0 <= joining.process_id < joining.processes:
            raise UserError(
                f"--process-id: {joining.process_id}; with --processes={joining.processes} it is from 0 to "
                f"{joining.processes - 1}"
            )
    else:
        for flag in ("coordinator", "processes", "process-id")[joining.mode == "auto" :]:
            if given[flag] is not None:
                raise UserError(f"--{flag}: says nothing with --distributed={joining.mode}; say --distributed=explicit")
    if joining.coordinator is not None:
        try:
            split_address(joining.coordinator)
        except ValueError:
            raise UserError(
                f"--coordinator: '{joining.coordinator}'; give HOST:PORT of process 0, as in 10.0.0.1:1234"
            ) from None


def _open_mpi(environment: Mapping[str, str]) -> Place | None:
    if "OMPI_COMM_WORLD_SIZE" not in environment:
        return None
    processes, process_id, here, local_id = (
        int(environment.get(f"OMPI_COMM_WORLD_{name}", default))
        for name, default in (("SIZE", 1), ("RANK", 0), ("LOCAL_SIZE", 1), ("LOCAL_RANK", 0))
    )
    # Open MPI 4: '1531576320.0;tcp://10.96.0.1,10.148.0.1:34911'. The job's number is in the upper bits.
    uri = environment.get("OMPI_MCA_orte_hnp_uri", "")
    if launcher := re.match(r"(\d+)\.\d+;.*?tcp6?://\[?([^],]+?)[],:]", uri):
        port, host = _port(int(launcher[1]) >> 12), launcher[2]
        coordinator = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    elif here == processes:
        job = environment.get("PMIX_NAMESPACE", environment.get("OMPI_MCA_ess_base_jobid", ""))
        coordinator = f"127.0.0.1:{_port(zlib.crc32(job.encode()))}"
    else:
        coordinator = None
    return Place(
        launcher="Open MPI",
        coordinator=coordinator,
        processes=processes,
        process_id=process_id,
        local_devices=_own_gpus(environment, here, local_id),
    )


def _slurm(environment: Mapping[str, str]) -> Place | None:
    needed = ("SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_STEP_NUM_TASKS", "SLURM_STEP_NODELIST", "SLURM_PROCID")
    if any(name not in environment for name in needed):
        return None
    # Task 0 is on the first node: of 'node[001-004,007],other', 'node001'.
    first = re.match(r"([^,\[]+)(?:\[([^],-]+)[^]]*\]([^,\[]*))?", environment["SLURM_STEP_NODELIST"])
    host = "".join(part or "" for part in first.groups())
    # Not the same port for another step of the job, which may run at the same time.
    port = _port(int(environment["SLURM_JOB_ID"]) + 997 * int(environment["SLURM_STEP_ID"]))
    if "SLURM_GPUS_PER_TASK" in environment:
        gpus = None  # Slurm shows each task its own.
    else:
        gpus = _own_gpus(environment, _slurm_tasks_here(environment), int(environment.get("SLURM_LOCALID", 0)))
    return Place(
        launcher="Slurm",
        coordinator=f"{host}:{port}",
        processes=int(environment["SLURM_STEP_NUM_TASKS"]),
        process_id=int(environment["SLURM_PROCID"]),
        local_devices=gpus,
    )


def _slurm_tasks_here(environment: Mapping[str, str]) -> int:
    # Tasks on each node, as in '2(x3),1'.
    tasks = []
    for count, times in re.findall(r"(\d+)(?:\(x(\d+)\))?", environment.get("SLURM_STEP_TASKS_PER_NODE", "1")):
        tasks += [int(count)] * int(times or 1)
    return tasks[min(int(environment.get("SLURM_NODEID", 0)), len(tasks) - 1)]


def _jobset(environment: Mapping[str, str]) -> Place | None:
    if "JAX_COORDINATOR_ADDRESS" not in environment:
        return None

    def number(*names: str) -> int | None:
        return next((int(environment[name]) for name in names if environment.get(name)), None)

    processes = number("JAX_NUM_PROCESSES", "JAX_PROCESS_COUNT", "NNODES")
    process_id = number("JAX_PROCESS_ID", "NODE_RANK")
    if process_id is None and (in_job := number("JOB_COMPLETION_INDEX")) is not None:
        process_id = in_job + (number("JOB_INDEX") or 0) * (number("PROCESSES_IN_JOB") or 0)
    if processes is None or (process_id is None and processes > 1):
        raise UserError(
            "JAX_COORDINATOR_ADDRESS: set, but not how many processes there are (JAX_NUM_PROCESSES) and which this is "
            "(JAX_PROCESS_ID); set all three, or give --distributed=off or explicit"
        )
    return Place(launcher="JobSet", coordinator=None, processes=processes, process_id=process_id or 0)


def _tpu_on_gke(environment: Mapping[str, str]) -> Place | None:
    workers = environment.get("TPU_PROCESS_ADDRESSES") or environment.get("TPU_WORKER_HOSTNAMES")
    if not workers or "TPU_WORKER_ID" not in environment:
        return None
    hosts = workers.split(",")
    slices = int(environment.get("MEGASCALE_NUM_SLICES") or 1)
    slice_id = int(environment.get("MEGASCALE_SLICE_ID") or 0)
    first = environment.get("MEGASCALE_COORDINATOR_ADDRESS") or hosts[0]
    return Place(
        launcher="GKE",
        coordinator=f"{first.split(':')[0]}:{_TPU_PORT}",
        processes=len(hosts) * slices,
        process_id=int(environment["TPU_WORKER_ID"]) + slice_id * len(hosts),
    )


def _tpu_pod(environment: Mapping[str, str]) -> Place | None:
    """A pod of Cloud TPU VMs, of which the machine's metadata tell; asked for as JAX does."""
    from jax._src import cloud_tpu_init
    from jax._src.clusters.cloud_tpu_cluster import GceTpuCluster

    if not cloud_tpu_init.running_in_cloud_tpu_vm or "TPU_SKIP_MDS_QUERY" in environment:
        return None
    try:
        if not GceTpuCluster.is_env_present() or GceTpuCluster.get_process_count() < 2:
            return None
        return Place(
            launcher="Cloud TPU",
            coordinator=GceTpuCluster.get_coordinator_address(timeout_secs=60, override_coordinator_port=None),
            processes=GceTpuCluster.get_process_count(),
            process_id=GceTpuCluster.get_process_id(),
        )
    except Exception as error:  # Whatever the metadata server, or its absence, makes of the question.
        logging.warning("This TPU machine cannot say whether it is one of a pod (%s); it is taken to be alone.", error)
        return None


def _with_coordinator_of(environment: Mapping[str, str], place: Place) -> Place:
    address = environment.get("JAX_COORDINATOR_ADDRESS")
    if not address:
        return place
    try:
        split_address(address)
    except ValueError:
        address = f"{address}:{environment.get('JAX_COORDINATOR_PORT') or _JOBSET_PORT}"
    return dataclasses.replace(place, coordinator=address)


def _own_gpus(environment: Mapping[str, str], processes_here: int, local_id: int) -> tuple[int, ...] | None:
    """A process' share of the GPUs of its host, where the launcher shows all of them to each."""
    visible = [gpu for gpu in environment.get("CUDA_VISIBLE_DEVICES", "").split(",") if gpu]
    if processes_here == 1 or len(visible) == 1:
        return None
    share = len(visible) // processes_here or 1
    return tuple(range(local_id * share, (local_id + 1) * share))


def _port(number: int) -> int:
    return _FIRST_PORT + number % _NUM_PORTS


# ---- What JAX needs around it.


def _keep_stdout_for_python() -> None:
    """Sends to stderr what is written to stdout behind Python's back; what Python prints stays where it was."""
    sys.stdout.flush()
    stdout = os.fdopen(os.dup(1), "w", buffering=1, encoding=sys.stdout.encoding, errors=sys.stdout.errors)
    os.dup2(2, 1)
    sys.stdout = stdout


def _without_proxy(host: str) -> None:
    """Keeps gRPC from asking a proxy for the coordinator, which is near."""
    name = "no_grpc_proxy"  # gRPC reads it in small letters only, and instead of no_proxy.
    before = os.environ.get(name) or os.environ.get("no_proxy") or os.environ.get("NO_PROXY")
    os.environ[name] = f"{before},{host}" if before else host
