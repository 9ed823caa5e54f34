"""Several processes of one run: how they find each other, agree before the first step, and end together.

JAX connects the processes and runs their collectives. This package adds what JAX does not do. Measured with jax 0.10.2
and orbax-checkpoint 0.12.8, two CPU processes with gloo, `heartbeat_timeout_seconds`, `shutdown_timeout_seconds` and
`initialization_timeout` all 10 s; "abort" is a SIGABRT that Python cannot catch, with 12 to 43 lines of C++ output:

| event | JAX alone | with this package |
|---|---|---|
| process 1 is killed | process 0: abort after 10 s, names "task 1" | exit code 1 at once, names process and host |
| process 0 is killed | process 1: abort after 0.2 s, no name | the same; in some cases JAX aborts first |
| process 1 is frozen | process 0: abort after 10 s, names "task 1" | exit code 1 in 20 s, names process and host |
| process 0 is frozen | process 1: abort after 10 s, no name | exit code 1 in 20 s, names process and host |
| process 1 raises | both: abort after 10 s, process 0 without the error | exit code 1 or 2 at once, both print it |
| process 1 is missing | process 0: abort after 16 s, no name | `UserError` in time that names all missing processes |
| process 0 is missing | process 1: abort after 16 s, no address | `UserError` in time that names the address |

`multihost_utils.sync_global_devices` waits for a missing process without limit. `multihost_utils.assert_equal` compares
arrays only and names no process. `multihost_utils.reached_preemption_sync_point`, on which the preemption handling of
Orbax relies, stopped both processes at the same step 1.2 s after a SIGTERM to one of them. It needs the service of JAX,
which a run of one process does not have, and does not handle SIGINT. So a run sends its requests inside its own steps.

So all of this package is still needed: `rendezvous` for the names of missing processes, `peer_channel` for the name of
a dead process and the stated bound, `coordination` for agreement and errors, `join` and `cluster_detection` to start
JAX only where a launcher or the user says so.
"""
