"""Accelerators that are not there."""

import io

import pytest

from experiments import backends


# JAX knows the first by name and has no plugin for it here; it does not know the second.
@pytest.mark.parametrize("platform", ["rocm", "gpus"])
def test_an_accelerator_that_is_not_there_is_one_line(command, fails, tmp_path, platform):
    words = "--config=configs/digits_linear.py", f"--workdir={tmp_path / 'run'}"
    line = fails("train", *words, env={**command.environment, "JAX_PLATFORMS": platform})
    assert line.startswith(f"JAX_PLATFORMS: '{platform}' cannot be used here")
    assert "; installed: jax " in line
    assert line.endswith("use cpu, cuda or tpu, or unset JAX_PLATFORMS to use the devices that are available")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("content", "driver", "remedy"),
    [
        (
            None,
            0,
            "install an NVIDIA driver (at least 580 for '.[gpu]' or 525 for '.[gpu-cuda12]'), and pip install -c "
            "constraints.txt -e '.[gpu]'",
        ),
        ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  470.82.01  Wed", 470, "update the NVIDIA driver (at least"),
        ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.129.03  Thu", 535, "-e '.[gpu-cuda12]'"),
        ("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release", 580, "-e '.[gpu]'"),
    ],
)
def test_the_extra_follows_from_the_driver(tmp_path, monkeypatch, content, driver, remedy):
    if content is not None:
        (tmp_path / "version").write_text(content)
    monkeypatch.setattr(backends, "_DRIVER", tmp_path / "version")
    assert backends.driver_version() == driver
    assert remedy in backends.gpu_remedy(driver)


def test_other_errors_are_not_explained():
    for error in (RuntimeError("Unable to initialize backend 'cuda'"), io.UnsupportedOperation(), AssertionError()):
        assert backends.describe(error) == ""
