import importlib.util
import subprocess
import sys

import pytest

from diagnostics.cost import target
from plumbline import UserError


@pytest.mark.parametrize(
    ("text", "kind", "devices", "name"),
    [
        ("v5e:16x16", "tpu", 256, "v5e"),
        ("v5p:4x4x4", "tpu", 64, "v5p"),
        ("v6e:1x1", "tpu", 1, "v6e"),
        ("h100:8", "gpu", 8, "h100"),
        ("l4", "gpu", 1, "l4"),
        ("cpu", "cpu", 0, "cpu"),
        ("cpu:8", "cpu", 8, "cpu"),
    ],
)
def test_devices_are_read(text, kind, devices, name):
    parsed = target.parse(text)
    assert (parsed.kind, parsed.num_devices, parsed.name) == (kind, devices, name)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("v5e:3x3", r"unknown topology 'v5e:3x3'; known: v5e:1x1, .*v5e:16x16"),
        ("v5e", r"unknown topology 'v5e'; known: v5e:1x1"),
        ("v5p:4x4", r"unknown topology 'v5p:4x4'; known: v5p:2x2x1"),
        ("tpu", r"unknown device 'tpu'; known: v5e:8x16, .*h100, .*cpu"),
        ("h100:none", r"after 'h100:' comes a number of GPUs"),
        ("cpu:0", r"after 'cpu:' comes a number of devices"),
    ],
)
def test_an_unknown_device_lists_those_known(text, message):
    with pytest.raises(UserError, match=f"--device: .*{message}"):
        target.parse(text)


def test_gpus_are_stood_in_for_by_as_many_cpu_devices():
    environment = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2 --xla_other=1"}
    target.set_environment(target.parse("h100:16"), environment)
    assert environment["XLA_FLAGS"].split() == ["--xla_other=1", "--xla_force_host_platform_device_count=16"]
    assert environment["JAX_PLATFORMS"] == "cpu"
    assert "compiled for 16 CPU devices in place of GPUs" in target.parse("h100:16").basis


@pytest.mark.skipif(importlib.util.find_spec("libtpu") is not None, reason="libtpu is installed")
def test_without_libtpu_the_error_says_how_to_install_it():
    with pytest.raises(UserError, match=r"needs libtpu, .*; install it with .venv/bin/pip install .*plan-tpu"):
        target.set_environment(target.parse("v5e:2x2"), {})


_ASK = """
import resource, sys
from diagnostics.cost import target
print("begun")
target.deepen_stack(target.parse(sys.argv[1]))
soft, hard = resource.getrlimit(resource.RLIMIT_STACK)
print(soft == hard)
"""


@pytest.mark.parametrize(("device", "said"), [("v6e:2x4", "begun begun True"), ("h100:8", "begun False")])
def test_only_what_compiles_for_tpus_begins_anew_with_all_the_stack_it_may_have(device, said):
    shell = 'ulimit -Ss 8000 && exec "$@"'
    words = ["bash", "-c", shell, "bash", sys.executable, "-c", _ASK, device]
    finished = subprocess.run(words, capture_output=True, text=True, check=True)
    assert finished.stdout.split() == said.split()
