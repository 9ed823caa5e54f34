"""Joining the processes of a run. `join` must be called before any JAX backend is used.

`jax.distributed.initialize` alone does not fit, as measured in `trainers.processes`: it aborts if a process does not
arrive, and its detection of clusters would join independent workers under `srun`.
"""

import dataclasses
import os
import sys
from collections.abc import Mapping

from plumbline import UserError
from trainers.processes.cluster_detection import Cluster, detect, detect_tpu_pod
from trainers.processes.peer_channel import PeerChannel
from trainers.processes.rendezvous import await_peers, split_address

# The stated bound: all processes end if one has sent no heartbeat for this long, and at once if its connection closes.
# A Python thread sends the heartbeats, so no C call may hold the interpreter lock for this long.
HEARTBEAT_TIMEOUT_SECONDS = 20.0
# JAX aborts on a heartbeat timeout of its own. It is longer, so that ours reports the cause first.
_JAX_HEARTBEAT_SECONDS = 30
# All processes have arrived when JAX starts, and they leave its service together.
_JAX_INIT_SECONDS = 60
_JAX_SHUTDOWN_SECONDS = 60

_channel: PeerChannel | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClusterSettings:
    """The settings of the user for the processes of a run.

    Attributes:
      mode: "off" for a run of this process alone, "explicit" to use the fields below, or "auto" for what the launcher
        says, see `cluster_detection.detect`. Without a launcher of several processes "auto" means "off".
      coordinator: HOST:PORT at which the others reach process 0; the port must be free. With "auto" it replaces that of
        the launcher.
      processes: number of processes, for "explicit".
      process_id: id of this process, from 0, for "explicit".
      initialization_timeout: seconds to wait for all processes to arrive.
      heartbeat_timeout: seconds without a heartbeat after which a process counts as dead and all others end.
    """

    mode: str = "auto"
    coordinator: str | None = None
    processes: int | None = None
    process_id: int | None = None
    initialization_timeout: float = 300.0
    heartbeat_timeout: float = HEARTBEAT_TIMEOUT_SECONDS


def join(settings: ClusterSettings) -> None:
    """Joins this process with the others of its run, if there are any. Must be called before JAX is used.

    From then on the end of one process ends the others, as described in `trainers.processes.peer_channel`, unless all
    of them have left a `trainers.processes.coordination.Watchdog`. Output of native libraries on stdout, such as that
    of gloo, is redirected to stderr.

    Raises:
      UserError: a setting is missing or invalid, the coordinator cannot be reached, or a process does not arrive within
        `initialization_timeout`.
    """
    global _channel
    if _channel is not None:
        raise RuntimeError("join: this process has already joined")
    cluster = _find_cluster(settings, os.environ)
    if cluster is None:
        return
    setting = "--coordinator" if settings.coordinator else f"the coordinator of {cluster.launcher}"
    hosts, sockets = await_peers(
        cluster.coordinator,
        cluster.processes,
        cluster.process_id,
        timeout=settings.initialization_timeout,
        setting=setting,
    )
    channel = PeerChannel(cluster.process_id, hosts, sockets, settings.heartbeat_timeout)
    _redirect_native_stdout()
    _bypass_proxy(split_address(cluster.coordinator)[0])
    import jax

    jax.config.update("jax_check_proxy_envs", False)
    jax.distributed.initialize(
        cluster.coordinator,
        cluster.processes,
        cluster.process_id,
        cluster.local_devices,
        cluster_detection_method="deactivate",
        initialization_timeout=_JAX_INIT_SECONDS,
        heartbeat_timeout_seconds=max(_JAX_HEARTBEAT_SECONDS, int(1.5 * settings.heartbeat_timeout)),
        shutdown_timeout_seconds=_JAX_SHUTDOWN_SECONDS,
    )
    _channel = channel


def channel() -> PeerChannel | None:
    """Returns the channel to the other processes; None if this process is alone."""
    return _channel


def _find_cluster(settings: ClusterSettings, environment: Mapping[str, str]) -> Cluster | None:
    _check(settings)
    if settings.mode == "off":
        return None
    if settings.mode == "explicit":
        return Cluster(
            launcher="--distributed=explicit",
            coordinator=settings.coordinator,
            processes=settings.processes,
            process_id=settings.process_id,
        )
    cluster = detect(environment) or detect_tpu_pod(environment)
    if cluster is None:
        if settings.coordinator:
            raise UserError(
                "--coordinator: given, but no launcher with several processes was found; "
                "add --distributed=explicit, --processes and --process-id"
            )
        return None
    cluster = dataclasses.replace(cluster, coordinator=settings.coordinator or cluster.coordinator)
    if cluster.coordinator is None:
        raise UserError(
            f"--coordinator: {cluster.launcher} has started {cluster.processes} processes on several hosts, but gives "
            "no address of process 0; give --coordinator=HOST:PORT, or --distributed=off for independent processes"
        )
    return cluster


def _check(settings: ClusterSettings) -> None:
    if settings.mode not in ("auto", "off", "explicit"):
        raise UserError(f"--distributed: '{settings.mode}'; give auto, off or explicit")
    if settings.initialization_timeout <= 0:
        raise UserError(f"--initialization-timeout: {settings.initialization_timeout:g}; give seconds, more than 0")
    given = {
        "coordinator": settings.coordinator,
        "processes": settings.processes,
        "process-id": settings.process_id,
    }
    if settings.mode == "explicit":
        for flag, value in given.items():
            if value is None:
                raise UserError(
                    f"--{flag}: missing; --distributed=explicit needs --coordinator, --processes and --process-id"
                )
        if settings.processes < 1:
            raise UserError(f"--processes: {settings.processes}; give at least 1")
        if not 0 <= settings.process_id < settings.processes:
            raise UserError(
                f"--process-id: {settings.process_id}; with --processes={settings.processes} give 0 to "
                f"{settings.processes - 1}"
            )
    else:
        for flag in ("coordinator", "processes", "process-id")[settings.mode == "auto" :]:
            if given[flag] is not None:
                raise UserError(
                    f"--{flag}: has no effect with --distributed={settings.mode}; give --distributed=explicit"
                )
    if settings.coordinator is not None:
        try:
            split_address(settings.coordinator)
        except ValueError:
            raise UserError(
                f"--coordinator: '{settings.coordinator}'; give HOST:PORT of process 0, as in 10.0.0.1:1234"
            ) from None


def _redirect_native_stdout() -> None:
    """Redirects stdout of native libraries to stderr. Output of Python stays on stdout."""
    sys.stdout.flush()
    stdout = os.fdopen(os.dup(1), "w", buffering=1, encoding=sys.stdout.encoding, errors=sys.stdout.errors)
    os.dup2(2, 1)
    sys.stdout = stdout


def _bypass_proxy(host: str) -> None:
    """Makes gRPC connect to the coordinator without a proxy."""
    name = "no_grpc_proxy"  # gRPC reads it in lower case only, and in place of no_proxy.
    before = os.environ.get(name) or os.environ.get("no_proxy") or os.environ.get("NO_PROXY")
    os.environ[name] = f"{before},{host}" if before else host
