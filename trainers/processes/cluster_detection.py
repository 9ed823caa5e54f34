"""Detection of the cluster: what the environment variables of launchers say about the processes of a run."""

import dataclasses
import logging
import re
import zlib
from collections.abc import Mapping

from plumbline import UserError
from trainers.processes.rendezvous import split_address

# The port that JAX uses on TPU pods.
_TPU_PORT = 8482
_JOBSET_PORT = 1234
# Above the ports that Linux gives to outgoing connections.
_FIRST_PORT, _NUM_PORTS = 61440, 4096


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cluster:
    """The processes of a run, and the id of this one.

    Attributes:
      launcher: name of the launcher, for messages.
      coordinator: HOST:PORT of process 0; None if the launcher does not give it.
      processes: number of processes.
      process_id: id of this process.
      local_devices: which of the visible GPUs this process uses; None means all.
    """

    launcher: str
    coordinator: str | None
    processes: int
    process_id: int
    local_devices: tuple[int, ...] | None = None


def detect(environment: Mapping[str, str]) -> Cluster | None:
    """Detects the cluster from environment variables. Returns None without a launcher of several processes.

    - Open MPI (`mpirun`): OMPI_COMM_WORLD_SIZE and _RANK; the coordinator from OMPI_MCA_orte_hnp_uri (Open MPI 4), or
      this host if it runs all processes.
    - Slurm: a step of several tasks (`srun`), by SLURM_STEP_NUM_TASKS and SLURM_PROCID. The batch
      script of `sbatch` is not such a step and runs alone.
    - JobSet on Kubernetes, or any launcher that sets JAX_COORDINATOR_ADDRESS: the number of processes from
      JAX_NUM_PROCESSES (Kubeflow), JAX_PROCESS_COUNT (xpk on CPUs) or NNODES (xpk on GPUs); the id from
      JAX_PROCESS_ID, JOB_INDEX with PROCESSES_IN_JOB, NODE_RANK, or JOB_COMPLETION_INDEX, which Kubernetes sets for the
      pods of an indexed job.
    - TPU on GKE: TPU_WORKER_HOSTNAMES and TPU_WORKER_ID; MEGASCALE_* for several slices.

    JAX_COORDINATOR_ADDRESS (HOST or HOST:PORT) overrides the address of any launcher; JAX_COORDINATOR_PORT gives its
    port.

    The detection of JAX is not used: it is private (`jax._src.clusters`), does not know JobSet, and gives all steps of
    a Slurm job the same port. Where both apply they agree, which a test checks.

    Args:
      environment: environment variables, as in `os.environ`.

    Raises:
      UserError: a variable is missing or invalid.
    """
    for launcher in (_open_mpi, _slurm, _tpu_on_gke, _jobset):
        try:
            cluster = launcher(environment)
        except ValueError as error:
            if isinstance(error, UserError):
                raise
            raise UserError(
                f"--distributed=auto: an environment variable is not a number ({error}); correct it, or give "
                "--distributed=off"
            ) from None
        if cluster:
            return _override_coordinator(environment, cluster) if cluster.processes > 1 else None
    return None


def _open_mpi(environment: Mapping[str, str]) -> Cluster | None:
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
    return Cluster(
        launcher="Open MPI",
        coordinator=coordinator,
        processes=processes,
        process_id=process_id,
        local_devices=_own_gpus(environment, here, local_id),
    )


def _slurm(environment: Mapping[str, str]) -> Cluster | None:
    needed = ("SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_STEP_NUM_TASKS", "SLURM_STEP_NODELIST", "SLURM_PROCID")
    if any(name not in environment for name in needed):
        return None
    # Task 0 runs on the first node: of 'node[001-004,007],other', 'node001'.
    first = re.match(r"([^,\[]+)(?:\[([^],-]+)[^]]*\]([^,\[]*))?", environment["SLURM_STEP_NODELIST"])
    host = "".join(part or "" for part in first.groups())
    # Steps of one job may run at the same time, so each has its own port.
    port = _port(int(environment["SLURM_JOB_ID"]) + 997 * int(environment["SLURM_STEP_ID"]))
    if "SLURM_GPUS_PER_TASK" in environment:
        gpus = None  # Slurm shows each task only its own GPUs.
    else:
        gpus = _own_gpus(environment, _slurm_tasks_here(environment), int(environment.get("SLURM_LOCALID", 0)))
    return Cluster(
        launcher="Slurm",
        coordinator=f"{host}:{port}",
        processes=int(environment["SLURM_STEP_NUM_TASKS"]),
        process_id=int(environment["SLURM_PROCID"]),
        local_devices=gpus,
    )


def _slurm_tasks_here(environment: Mapping[str, str]) -> int:
    # The number of tasks on each node, as in '2(x3),1'.
    tasks = []
    for count, times in re.findall(r"(\d+)(?:\(x(\d+)\))?", environment.get("SLURM_STEP_TASKS_PER_NODE", "1")):
        tasks += [int(count)] * int(times or 1)
    return tasks[min(int(environment.get("SLURM_NODEID", 0)), len(tasks) - 1)]


def _jobset(environment: Mapping[str, str]) -> Cluster | None:
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
            "JAX_COORDINATOR_ADDRESS: set without the number of processes (JAX_NUM_PROCESSES) and the id of this one "
            "(JAX_PROCESS_ID); set all three, or give --distributed=off or explicit"
        )
    return Cluster(launcher="JobSet", coordinator=None, processes=processes, process_id=process_id or 0)


def _tpu_on_gke(environment: Mapping[str, str]) -> Cluster | None:
    workers = environment.get("TPU_PROCESS_ADDRESSES") or environment.get("TPU_WORKER_HOSTNAMES")
    if not workers or "TPU_WORKER_ID" not in environment:
        return None
    hosts = workers.split(",")
    slices = int(environment.get("MEGASCALE_NUM_SLICES") or 1)
    slice_id = int(environment.get("MEGASCALE_SLICE_ID") or 0)
    first = environment.get("MEGASCALE_COORDINATOR_ADDRESS") or hosts[0]
    return Cluster(
        launcher="GKE",
        coordinator=f"{first.split(':')[0]}:{_TPU_PORT}",
        processes=len(hosts) * slices,
        process_id=int(environment["TPU_WORKER_ID"]) + slice_id * len(hosts),
    )


def detect_tpu_pod(environment: Mapping[str, str]) -> Cluster | None:
    """Detects a pod of Cloud TPU VMs from the metadata server, through JAX. Returns None if there is none."""
    from jax._src import cloud_tpu_init
    from jax._src.clusters.cloud_tpu_cluster import GceTpuCluster

    if not cloud_tpu_init.running_in_cloud_tpu_vm or "TPU_SKIP_MDS_QUERY" in environment:
        return None
    try:
        if not GceTpuCluster.is_env_present() or GceTpuCluster.get_process_count() < 2:
            return None
        return Cluster(
            launcher="Cloud TPU",
            coordinator=GceTpuCluster.get_coordinator_address(timeout_secs=60, override_coordinator_port=None),
            processes=GceTpuCluster.get_process_count(),
            process_id=GceTpuCluster.get_process_id(),
        )
    except Exception as error:  # The metadata server may be absent or fail in many ways.
        logging.warning(
            "The metadata of this TPU machine cannot be read (%s); it is assumed not to be part of a pod.", error
        )
        return None


def _override_coordinator(environment: Mapping[str, str], cluster: Cluster) -> Cluster:
    address = environment.get("JAX_COORDINATOR_ADDRESS")
    if not address:
        return cluster
    try:
        split_address(address)
    except ValueError:
        address = f"{address}:{environment.get('JAX_COORDINATOR_PORT') or _JOBSET_PORT}"
    return dataclasses.replace(cluster, coordinator=address)


def _own_gpus(environment: Mapping[str, str], processes_here: int, local_id: int) -> tuple[int, ...] | None:
    """Returns the share of a process in the GPUs of its host, if the launcher shows all of them to each process."""
    visible = [gpu for gpu in environment.get("CUDA_VISIBLE_DEVICES", "").split(",") if gpu]
    if processes_here == 1 or len(visible) == 1:
        return None
    share = len(visible) // processes_here or 1
    return tuple(range(local_id * share, (local_id + 1) * share))


def _port(number: int) -> int:
    return _FIRST_PORT + number % _NUM_PORTS
