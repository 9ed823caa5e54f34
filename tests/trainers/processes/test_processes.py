"""Real processes on this machine: they find each other, agree, and end together, whatever ends one of them."""

import concurrent.futures
import contextlib
import json
import pathlib
import re
import signal
import socket
import subprocess
import sys
import time

import pytest
from jax._src.clusters import OmpiCluster, SlurmCluster
from jax._src.clusters.cloud_tpu_cluster import GkeTpuCluster

from plumbline import UserError
from tests.conftest import free_port
from trainers.processes.cluster_detection import Cluster, detect
from trainers.processes.join import ClusterSettings, channel, join
from trainers.processes.rendezvous import await_peers

WORKER = pathlib.Path(__file__).with_name("process_worker.py")
HEARTBEAT_TIMEOUT = 6.0  # As in process_worker.py.
# Starting, on a machine whose cores are shared.
MARGIN = 10.0


class Job:
    """Workers of one run, each in a process of its own."""

    def __init__(self, command, role, count, *, process_ids=None, port=None, timeout=60, counts=None):
        port = port or free_port()
        process_ids = range(count) if process_ids is None else process_ids
        self.processes = [
            command.popen(
                [sys.executable, str(WORKER), *map(str, (port, (counts or {}).get(i, count), i, role, timeout))],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for i in process_ids
        ]

    def ended(self, *indices, seconds=60):
        """Exit codes, outputs and errors of the workers, of all unless some are named."""
        ends = []
        for index in indices or range(len(self.processes)):
            stdout, stderr = self.processes[index].communicate(timeout=seconds)
            # What JAX and gloo say of themselves is not ours.
            lines = [line for line in stderr.splitlines() if not line.startswith("[Gloo]")]
            ends.append((self.processes[index].returncode, stdout, "\n".join(lines)))
        return ends

    def kill(self):
        for process in self.processes:
            process.kill()
            with contextlib.suppress(ValueError):  # Its output has been read already.
                process.communicate()


def reach(port, seconds=60):
    """A connection to what listens there, in a while."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port))
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.1)


@pytest.fixture
def start(command):
    jobs = []

    def begin(*arguments, **options):
        jobs.append(Job(command, *arguments, **options))
        return jobs[-1]

    yield begin
    for job in jobs:
        job.kill()


def name(process, count):
    return f"process {process} of {count} ({socket.gethostname()})"


def test_processes_that_agree_go_on_with_process_0s_values(start):
    # stdout is left to Python: gloo writes there as well.
    assert start("agrees", 2).ended() == [(0, "ready\n", "")] * 2


def test_a_differing_fact_ends_all_and_names_process_fact_and_values(start):
    line = f"error: {name(1, 2)}: config.rate is 0.2, process 0's is 0.1; "
    for code, _, stderr in start("differs", 2).ended():
        assert code == 2
        assert stderr.startswith(line)
        assert len(stderr.splitlines()) == 1


def test_a_killed_process_ends_the_others_at_once(start):
    killed, *others = start("dies", 2).ended()[::-1]
    assert killed[0] == -signal.SIGKILL
    for code, _, stderr in others:
        assert code == 1
        assert stderr.splitlines()[-1].startswith(f"error: {name(1, 2)} has died; stopping, ")


@pytest.mark.slow
def test_four_processes_agree(start):
    assert start("agrees", 4).ended() == [(0, "ready\n", "")] * 4


@pytest.mark.slow
@pytest.mark.parametrize(("role", "victim"), [("dies", 1), ("first_dies", 0)])
def test_of_four_processes_one_killed_ends_three(start, role, victim):
    job = start(role, 4)
    assert job.processes[victim].wait(60) == -signal.SIGKILL
    died = time.monotonic()
    others = job.ended(*(index for index in range(4) if index != victim))
    assert time.monotonic() - died < HEARTBEAT_TIMEOUT
    for code, _, stderr in others:
        # JAX may be faster where the coordinator has died. It says so, and aborts.
        assert code == 1 or (victim == 0 and code == -signal.SIGABRT)
        assert f"{name(victim, 4)} has died" in stderr or "the JAX distributed service detected fatal" in stderr


@pytest.mark.slow
@pytest.mark.parametrize(("role", "victim"), [("freezes", 1), ("first_freezes", 0)])
def test_a_frozen_process_ends_the_other_in_the_stated_time(start, role, victim):
    job = start(role, 2)
    assert job.processes[victim].stdout.readline() == "ready\n"
    froze = time.monotonic()
    [(code, _, stderr)] = job.ended(1 - victim)
    assert HEARTBEAT_TIMEOUT - 2 < time.monotonic() - froze < HEARTBEAT_TIMEOUT + MARGIN
    assert code == 1
    assert stderr.splitlines()[-1].startswith(f"error: {name(victim, 2)} sent no heartbeat for 6 s; ")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("role", "culprit"), [("fails_alone", 1), ("first_fails_alone", 0), ("fails_inside_a_wait", 1)]
)
def test_an_exception_in_one_process_ends_both_and_both_print_it(start, role, culprit):
    began = time.monotonic()
    ends = start(role, 2).ended()
    assert time.monotonic() - began < HEARTBEAT_TIMEOUT + MARGIN
    assert [code for code, _, _ in ends] == [1, 1]
    assert "Traceback" in ends[culprit][2]
    assert ends[culprit][2].endswith("ValueError: a wheel came off")
    assert ends[1 - culprit][2].splitlines()[-1] == f"error: {name(culprit, 2)}: ValueError: a wheel came off"


@pytest.mark.slow
def test_a_user_error_in_one_process_ends_both_with_exit_code_2(start):
    failed, waiting = start("user_error_alone", 2).ended()
    assert (waiting[0], waiting[2]) == (2, "error: data.source: no such folder")
    assert failed[0] == 2
    assert failed[2].splitlines()[-1] == f"error: {name(1, 2)}: data.source: no such folder"


@pytest.mark.slow
def test_a_missing_fact_is_a_difference(start):
    for code, _, stderr in start("lacks_a_fact", 2).ended():
        assert code == 2
        assert stderr.startswith(f"error: {name(1, 2)}: step is missing, process 0's is null; ")


@pytest.mark.slow
def test_an_error_found_before_agreement_is_raised_on_all(start):
    line = f"error: {name(1, 2)}: data.source: no such folder"
    assert start("finds_an_error", 2).ended() == [(2, "ready\n", line)] * 2
    # What all have found is nothing of one process.
    assert start("all_find_the_error", 2).ended() == [(2, "ready\n", "error: train.batch_size: 0")] * 2


@pytest.mark.slow
def test_a_process_that_does_not_come_to_agree_is_named(start):
    ends = start("never_comes", 2).ended()
    assert [code for code, _, _ in ends] == [2, 2]
    for _, _, stderr in ends:
        assert f"{name(1, 2)} did not reach 'agreement' within 1 s" in stderr


@pytest.mark.slow
@pytest.mark.parametrize(("role", "code"), [("normal_end", 0), ("ends_preempted", 42)])
def test_a_normal_end_is_quiet_although_processes_reach_it_seconds_apart(start, role, code):
    assert start(role, 2).ended() == [(code, "ready\n", "")] * 2


@pytest.mark.slow
def test_long_work_in_python_is_no_death(start):
    assert start("is_slow", 2).ended() == [(0, "ready\n", "")] * 2


def explicit(**changed):
    given = {"mode": "explicit", "coordinator": "127.0.0.1:1234", "processes": 2, "process_id": 1}
    return ClusterSettings(**{**given, **changed})


def test_an_unreachable_coordinator_is_given_up_in_time_with_its_address():
    port, began = free_port(), time.monotonic()
    with pytest.raises(UserError, match=rf"--coordinator: 127.0.0.1:{port}: process 0 was not reached within 2 s"):
        join(explicit(coordinator=f"127.0.0.1:{port}", initialization_timeout=2.0))
    assert time.monotonic() - began < 4
    with pytest.raises(UserError, match=r"host\.invalid:1234: .* within 0\.5 s .*--initialization-timeout"):
        join(explicit(coordinator="host.invalid:1234", initialization_timeout=0.5))


def test_a_port_that_something_else_answers_on_is_refused():
    with socket.create_server(("", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(UserError, match=r"process 0 cannot listen there: Address already in use; choose another"):
            join(explicit(coordinator=address, process_id=0))


def test_processes_that_are_missing_are_counted_and_named(start):
    port = free_port()
    others = start("agrees", 4, process_ids=[1, 3], port=port)
    with pytest.raises(UserError, match=r"after 5 s 3 of 4 processes have arrived; missing: 2; ") as raised:
        join(explicit(coordinator=f"127.0.0.1:{port}", processes=4, process_id=0, initialization_timeout=5.0))
    assert others.ended() == [(2, "", f"error: {raised.value}")] * 2


def test_one_that_came_and_died_is_waited_for_again():
    port = free_port()

    def came_as(process_id):
        connection = reach(port)
        connection.sendall(json.dumps({"process_id": process_id, "processes": 3, "host": "here"}).encode() + b"\n")
        return connection

    with concurrent.futures.ThreadPoolExecutor() as pool:
        meeting = pool.submit(await_peers, f"127.0.0.1:{port}", 3, 0, timeout=30.0)
        came_as(1).close()
        with came_as(2) as second, came_as(1) as first:
            hosts, sockets = meeting.result()
            assert hosts[1:] == ["here"] * 2
            for process, connection in {1: first, 2: second}.items():
                assert sockets[process].getpeername()[1] == connection.getsockname()[1]
                sockets[process].close()


@pytest.mark.slow
def test_strangers_and_a_restart_do_not_disturb_the_rendezvous(start):
    port = free_port()
    job = start("agrees", 3, process_ids=[0, 1], port=port)
    for said in (b"", b"GET / HTTP/1.1\n", b'{"process_id": 2}\n'):
        with reach(port) as stranger:
            stranger.sendall(said)
    time.sleep(3)  # Process 1 has called by now.
    job.processes[1].kill()
    others = start("agrees", 3, process_ids=[1, 2], port=port)
    assert job.ended(0) == [(0, "ready\n", "")]
    assert others.ended() == [(0, "ready\n", "")] * 2


@pytest.mark.slow
def test_contradicting_processes_are_an_error(start):
    ends = start("agrees", 2, counts={1: 4}).ended()
    assert [code for code, _, _ in ends] == [2, 2]
    for _, _, stderr in ends:
        assert f"process 1 ({socket.gethostname()}) was started as one of 4 processes" in stderr
    ends = start("agrees", 3, process_ids=[0, 1, 1]).ended()
    assert [code for code, _, _ in ends] == [2, 2, 2]
    for _, _, stderr in ends:
        assert "two processes have the id 1" in stderr


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (explicit(coordinator=None), "--coordinator: missing; --distributed=explicit needs"),
        (explicit(processes=None), "--processes: missing"),
        (explicit(process_id=None), "--process-id: missing"),
        (explicit(processes=0), "--processes: 0; give at least 1"),
        (explicit(process_id=2), "--process-id: 2; with --processes=2 give 0 to 1"),
        (explicit(process_id=-1), "--process-id: -1"),
        (explicit(coordinator="10.0.0.1"), "--coordinator: '10.0.0.1'; give HOST:PORT"),
        (explicit(coordinator="10.0.0.1:0"), "--coordinator: '10.0.0.1:0'; give HOST:PORT"),
        (explicit(coordinator="fd00::2:1234"), "--coordinator: 'fd00::2:1234'; give HOST:PORT"),
        (explicit(initialization_timeout=0.0), "--initialization-timeout: 0; give seconds, more than 0"),
        (ClusterSettings(mode="off", processes=2), "--processes: has no effect with --distributed=off"),
        (ClusterSettings(mode="off", coordinator="host:1"), "--coordinator: has no effect with --distributed=off"),
        (ClusterSettings(mode="auto", process_id=0), "--process-id: has no effect with --distributed=auto"),
        (ClusterSettings(mode="auto", coordinator="host:1234"), "--coordinator: given, but no launcher"),
        (ClusterSettings(mode="maybe"), "--distributed: 'maybe'; give auto, off or explicit"),
    ],
)
def test_wrong_flags_are_an_error(settings, message):
    with pytest.raises(UserError, match=re.escape(message)):
        join(settings)


@pytest.mark.parametrize("mode", ["off", "auto"])
def test_a_process_that_nobody_says_has_peers_stays_alone(mode):
    join(ClusterSettings(mode=mode))
    assert channel() is None


# As the launchers set them; Open MPI's were printed by mpirun 4.1.4.
OPEN_MPI = {
    "OMPI_COMM_WORLD_SIZE": "2",
    "OMPI_COMM_WORLD_RANK": "1",
    "OMPI_COMM_WORLD_LOCAL_SIZE": "2",
    "OMPI_COMM_WORLD_LOCAL_RANK": "1",
    "OMPI_MCA_orte_hnp_uri": "646971392.0;tcp://192.0.2.2:44257;tcp6://[fd00::2]:53581",
}
SLURM = {
    "SLURM_JOB_ID": "8192",
    "SLURM_STEP_ID": "0",
    "SLURM_NTASKS": "8",
    "SLURM_STEP_NUM_TASKS": "4",
    "SLURM_STEP_NODELIST": "node[003-004]",
    "SLURM_STEP_TASKS_PER_NODE": "2(x2)",
    "SLURM_NODEID": "1",
    "SLURM_PROCID": "3",
    "SLURM_LOCALID": "1",
}
XPK_GPU = {
    "JAX_COORDINATOR_ADDRESS": "job-slice-job-0-0.job",
    "JAX_COORDINATOR_PORT": "6002",
    "NNODES": "2",
    "NODE_RANK": "1",
    "JOB_COMPLETION_INDEX": "1",
}
XPK_CPU = {
    "JAX_COORDINATOR_ADDRESS": "job-slice-job-0-0.job",
    "JAX_PROCESS_COUNT": "8",
    "PROCESSES_IN_JOB": "4",
    "JOB_INDEX": "1",
    "JOB_COMPLETION_INDEX": "2",
}
KUBEFLOW = {"JAX_COORDINATOR_ADDRESS": "job-node-0-0.job:5000", "JAX_NUM_PROCESSES": "3", "JAX_PROCESS_ID": "2"}
GKE_TPU = {"TPU_WORKER_HOSTNAMES": "tpu-0.tpu,tpu-1.tpu", "TPU_WORKER_ID": "1"}
TWO_SLICES = {
    "MEGASCALE_NUM_SLICES": "2",
    "MEGASCALE_SLICE_ID": "1",
    "MEGASCALE_COORDINATOR_ADDRESS": "tpu-slice-0:8080",
}


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        # The port is 61440 + (the job's number, 646971392 / 4096) % 4096.
        (OPEN_MPI, ("Open MPI", "192.0.2.2:63744", 2, 1, (1,))),
        (SLURM, ("Slurm", "node003:61440", 4, 3, (1,))),
        ({**SLURM, "SLURM_STEP_ID": "1"}, ("Slurm", "node003:62437", 4, 3, (1,))),
        ({**SLURM, "SLURM_STEP_NODELIST": "gpu-7,gpu-9"}, ("Slurm", "gpu-7:61440", 4, 3, (1,))),
        ({**SLURM, "SLURM_STEP_NODELIST": "n[01,05]-ib"}, ("Slurm", "n01-ib:61440", 4, 3, (1,))),
        ({**SLURM, "CUDA_VISIBLE_DEVICES": "0,1,2,3"}, ("Slurm", "node003:61440", 4, 3, (2, 3))),
        ({**SLURM, "CUDA_VISIBLE_DEVICES": "5"}, ("Slurm", "node003:61440", 4, 3, None)),
        ({**SLURM, "SLURM_GPUS_PER_TASK": "2"}, ("Slurm", "node003:61440", 4, 3, None)),
        ({**SLURM, "SLURM_STEP_TASKS_PER_NODE": "3,1"}, ("Slurm", "node003:61440", 4, 3, None)),
        (XPK_GPU, ("JobSet", "job-slice-job-0-0.job:6002", 2, 1, None)),
        (XPK_CPU, ("JobSet", "job-slice-job-0-0.job:1234", 8, 6, None)),
        (KUBEFLOW, ("JobSet", "job-node-0-0.job:5000", 3, 2, None)),
        (GKE_TPU, ("GKE", "tpu-0.tpu:8482", 2, 1, None)),
        ({**GKE_TPU, **TWO_SLICES}, ("GKE", "tpu-slice-0:8482", 4, 3, None)),
        ({**GKE_TPU, "JAX_COORDINATOR_ADDRESS": "there:99"}, ("GKE", "there:99", 2, 1, None)),
    ],
)
def test_clusters_are_detected_from_the_environment(environment, expected):
    names = ("launcher", "coordinator", "processes", "process_id", "local_devices")
    assert detect(environment) == Cluster(**dict(zip(names, expected, strict=True)))


@pytest.mark.parametrize(
    ("environment", "cluster"),
    [(OPEN_MPI, OmpiCluster), (SLURM, SlurmCluster), (GKE_TPU | TWO_SLICES, GkeTpuCluster)],
)
def test_detection_agrees_with_jax(environment, cluster, monkeypatch):
    monkeypatch.setattr(GkeTpuCluster, "wait_for_coordinator", lambda *arguments: None)
    for name, value in (environment | {"SLURM_NTASKS": "4"}).items():
        monkeypatch.setenv(name, value)
    found = detect(environment)
    assert found.coordinator == cluster.get_coordinator_address(None, None)
    assert (found.processes, found.process_id) == (cluster.get_process_count(), cluster.get_process_id())


@pytest.mark.parametrize(
    "environment",
    [
        {},
        # What sbatch itself runs is no step; one task is no company.
        {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "8", "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NODELIST": "n1"},
        {**SLURM, "SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"},
        {**OPEN_MPI, "OMPI_COMM_WORLD_SIZE": "1", "OMPI_COMM_WORLD_RANK": "0"},
        {**XPK_GPU, "NNODES": "1", "NODE_RANK": "0"},
        {"TPU_WORKER_HOSTNAMES": "localhost", "TPU_WORKER_ID": "0"},
        # A pod of an indexed job, which may well work on its own.
        {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "JOB_COMPLETION_INDEX": "3"},
    ],
)
def test_where_no_launcher_says_that_there_are_several_none_is_found(environment):
    assert detect(environment) is None


def test_open_mpi_without_an_address_is_found_on_one_host_only():
    without = {name: value for name, value in OPEN_MPI.items() if name != "OMPI_MCA_orte_hnp_uri"}
    assert detect(without).coordinator.startswith("127.0.0.1:")
    assert detect({**without, "OMPI_COMM_WORLD_LOCAL_SIZE": "1"}).coordinator is None


def test_a_coordinator_without_the_number_of_processes_is_an_error():
    with pytest.raises(UserError, match="JAX_COORDINATOR_ADDRESS: set without the number of processes"):
        detect({"JAX_COORDINATOR_ADDRESS": "host:1234"})
