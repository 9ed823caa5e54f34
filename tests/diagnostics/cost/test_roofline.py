import pytest

from diagnostics.cost import roofline
from diagnostics.cost.collectives import Collective
from diagnostics.cost.work import Operation
from trainers.devices.hardware import BY_NAME

V5E, V5P, H100 = (BY_NAME[name] for name in ("v5e", "v5p", "h100"))


def test_each_operation_takes_the_longer_of_its_arithmetic_and_its_traffic():
    # One second of arithmetic at the reckoned rate, and two of traffic in another operation.
    arithmetic = Operation("a", 2, int(197e12 * roofline.COMPUTE_EFFICIENCY / 2), 0, 0)
    traffic = Operation("b", 1, 0, 0, int(2 * 819e9 * roofline.MEMORY_EFFICIENCY))
    time = roofline.step_time([arithmetic, traffic], [], V5E, (4, 4), "bfloat16")
    assert time.compute == pytest.approx(1)
    assert time.memory == pytest.approx(2)
    assert time.operations == time.seconds == pytest.approx(3)
    assert time.bound == "memory"


def test_collectives_run_beside_the_arithmetic():
    # Sends 2 * 15 / 16 of its bytes over one link of 50 GB/s twice: along two open sides of four.
    sent = Collective("all-reduce", 1, int(1e9), 16)
    time = roofline.step_time([], [sent], V5E, (4, 4), "bfloat16")
    assert time.interconnect == pytest.approx(2 * 15 / 16 * 1e9 / (2 * 50e9 * roofline.INTERCONNECT_EFFICIENCY))
    assert time.seconds == time.interconnect
    assert time.bound == "interconnect"


@pytest.mark.parametrize(
    ("hardware", "shape", "group", "links"),
    [
        (V5E, (16, 16), 16, 2),  # One side, closed into a ring.
        (V5E, (16, 16), 256, 4),
        (V5E, (4, 8), 8, 1),  # A side of eight is open.
        (V5E, (4, 8), 32, 2),
        (V5P, (4, 4, 4), 64, 6),  # v5p closes every side of four.
        (V5P, (2, 2, 1), 4, 2),
    ],
)
def test_a_torus_gives_the_links_of_the_axes_that_a_group_needs(hardware, shape, group, links):
    assert roofline.bandwidth(hardware, shape, group) == links * hardware.link_bandwidth


def test_gpus_leave_their_host_by_the_network():
    assert roofline.bandwidth(H100, (16,), 8) == 450e9
    assert roofline.bandwidth(H100, (16,), 16) == 50e9


def test_small_operations_and_collectives_have_a_least_time():
    time = roofline.step_time(
        [Operation("a", 10, 1, 1, 1)], [Collective("all-reduce", 3, 4, 8)], H100, (8,), "bfloat16"
    )
    assert time.operations == pytest.approx(10 * roofline.LEAST_OPERATION_SECONDS)
    assert time.interconnect == pytest.approx(3 * roofline.LEAST_COLLECTIVE_SECONDS)


def test_mfu_is_the_share_of_the_peak():
    assert roofline.mfu(2.0, 1e12, 1e12) == 0.5


@pytest.mark.parametrize(
    ("compute", "num_bytes", "interconnect", "expected"),
    [(3.0, 0, 1.0, 3.0), (0.5, 0, 1.0, 1.0), (0.5, 1, 0.5, 2.0)],
)
def test_the_least_time_of_a_step_is_its_longest_part(compute, num_bytes, interconnect, expected):
    # As many bytes as take two seconds.
    num_bytes = round(num_bytes * 2 * H100.memory_bandwidth * roofline.MEMORY_EFFICIENCY)
    time = roofline.StepTime(compute=compute, memory=9.0, operations=9.0, interconnect=interconnect)
    assert roofline.least_seconds(time, H100, num_bytes) == pytest.approx(expected)
