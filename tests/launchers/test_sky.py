"""Every kind of SkyPilot file through SkyPilot's own reader. Nothing is launched: that needs a cloud."""

import json

import pytest

# Run by the Python with SkyPilot: prints how SkyPilot reads a file.
READ = """
import json, sys
import sky

task = sky.Task.from_yaml(sys.argv[1])
(resources,) = task.resources
print(json.dumps({
    "nodes": task.num_nodes,
    "cloud": resources.cloud and str(resources.cloud),
    "accelerators": resources.accelerators,
    "runtime": (resources.accelerator_args or {}).get("runtime_version"),
    "cpus": resources.cpus,
    "spot": resources.use_spot,
    "recovery": resources.job_recovery,
    "mounts": {path: [mount.source, mount.mode.value] for path, mount in task.storage_mounts.items()},
}))
"""


@pytest.fixture
def read(command, tool, tmp_path):
    def write_and_read(*words):
        path = tmp_path / "job.yaml"
        command("launch", "--on=sky", "--config=configs/digits_mlp.py", *words, f"--output={path}")
        return json.loads(tool("python", "-c", READ, path).splitlines()[-1])

    return write_and_read


@pytest.mark.parametrize(
    ("accelerator", "runtime"),
    [
        ("tpu-v2-8", "tpu-ubuntu2204-base"),
        ("tpu-v3-32", "tpu-ubuntu2204-base"),
        ("tpu-v4-8", "tpu-ubuntu2204-base"),
        ("tpu-v5litepod-1", "v2-alpha-tpuv5-lite"),
        ("tpu-v5litepod-16", "v2-alpha-tpuv5-lite"),
        ("tpu-v5p-16", "v2-alpha-tpuv5"),
        ("tpu-v6e-256", "v2-alpha-tpuv6e"),
    ],
)
@pytest.mark.parametrize("spot", [True, False])
def test_skypilot_reads_a_file_for_every_generation_of_tpus(read, accelerator, runtime, spot):
    task = read("--workdir=gs://bucket/mlp", f"--accelerator={accelerator}", f"--spot={spot}")
    assert (task["nodes"], task["cloud"], task["accelerators"]) == (1, "GCP", {accelerator: 1})
    assert (task["runtime"], task["spot"]) == (runtime, spot)
    assert task["mounts"] == {"/mnt/bucket": ["gs://bucket", "MOUNT"]}
    assert spot is False or task["recovery"]["recover_on_exit_codes"] == [42]


@pytest.mark.parametrize(
    ("cloud", "workdir", "mounts"),
    [
        ("gcp", "gs://bucket/mlp", {"/mnt/bucket": ["gs://bucket", "MOUNT"]}),
        ("aws", "s3://bucket/mlp", {"/mnt/bucket": ["s3://bucket", "MOUNT_CACHED"]}),
        (
            "azure",
            "https://me.blob.core.windows.net/runs/mlp",
            {"/mnt/runs": ["https://me.blob.core.windows.net/runs", "MOUNT_CACHED"]},
        ),
        ("kubernetes", "/shared/mlp", {}),
    ],
)
def test_skypilot_reads_a_file_for_every_cloud(read, cloud, workdir, mounts):
    task = read(f"--workdir={workdir}", "--accelerator=A100:8", f"--cloud={cloud}", "--spot")
    assert (task["cloud"].lower(), task["accelerators"], task["mounts"]) == (cloud, {"A100": 8}, mounts)


def test_skypilot_reads_a_file_for_several_machines_and_for_cpus(read):
    task = read("--workdir=gs://bucket/on", "--accelerator=H100:8", "--nodes=4", "--cloud=aws")
    assert (task["nodes"], task["cloud"], task["accelerators"]) == (4, "AWS", {"H100": 8})
    task = read("--workdir=runs/mlp", "--accelerator=cpu:4")
    assert (task["nodes"], task["accelerators"], task["cpus"]) == (1, None, "4+")
    assert read("--workdir=runs/mlp", "--accelerator=cpu")["cpus"] is None
