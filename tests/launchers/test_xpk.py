"""xpk's dry run of a file, down to the manifest for Kubernetes. Nothing reaches a cluster; the attaching of a bucket,
which asks the cluster, is parsed only.
"""

import re
import shlex
import signal
import subprocess
import time

import pytest
import yaml

DRY = (
    "--dry-run --skip-validation --no-dependency-auto-download "
    "--project=mine --project-number=1 --zone=us-central1-a --output-manifest-file="
)
# Run by the Python with xpk: parses words with xpk's parser, and runs nothing.
PARSE = """
import argparse, sys
from xpk.parser.core import set_parser

parser = argparse.ArgumentParser(prog="xpk")
set_parser(parser=parser)
print(vars(parser.parse_args(sys.argv[1:])))
"""


def write(command, path, *words):
    where = ("--on=xpk", "--cluster=pods", "--workdir=gs://bucket/mlp", "--config=configs/digits_mlp.py")
    command("launch", *where, *words, f"--output={path}")
    return path


@pytest.fixture
def pods(command, tool, tmp_path):
    """The manifest that xpk makes of a file."""

    def make(*words):
        manifest = tmp_path / "manifest.yaml"
        file = write(command, tmp_path / "job.sh", *words, f"--options={DRY}{manifest}")
        # So that it is skipped where xpk is missing.
        tool("xpk", "version", "--help")
        tool("python", "-c", f"import subprocess, sys; sys.exit(subprocess.call(['bash', {str(file)!r}]))")
        return yaml.safe_load(manifest.read_text())["spec"]

    return make


@pytest.mark.parametrize(
    ("accelerator", "hosts"), [("tpu-v5litepod-16", 4), ("tpu-v5litepod-256", 64), ("tpu-v5p-16", 2), ("tpu-v6e-16", 4)]
)
def test_xpk_makes_a_pod_a_host_and_starts_them_again_on_exit_code_42(pods, accelerator, hosts):
    spec = pods(f"--accelerator={accelerator}", "--spot")
    assert spec["failurePolicy"]["maxRestarts"] == 100
    (slices,) = spec["replicatedJobs"]
    job = slices["template"]["spec"]
    assert (slices["replicas"], job["completions"]) == (1, hosts)
    (rule,) = job["podFailurePolicy"]["rules"]
    codes = rule["onExitCodes"]
    assert (rule["action"], codes["operator"]) == ("FailJob", "NotIn")
    assert {42, 134, 137, 143} <= set(codes["values"])
    assert not {1, 2, 3} & set(codes["values"])
    assert job["template"]["spec"]["terminationGracePeriodSeconds"] == 120


def test_in_the_container_the_signal_reaches_python_and_its_exit_code_comes_back(pods, tmp_path):
    """What xpk wraps the command in is run here, with a `python` that only waits for the signal."""
    (container,) = pods("--accelerator=tpu-v5litepod-16")["replicatedJobs"][0]["template"]["spec"]["template"]["spec"][
        "containers"
    ]
    (tmp_path / "pip").write_text("#!/bin/sh\nexit 0\n")
    (tmp_path / "python").write_text(
        f"#!/bin/bash\necho \"$@\" > {tmp_path}/words\ntrap 'exit 42' TERM\nwhile true; do sleep 0.1; done\n"
    )
    for name in ("pip", "python"):
        (tmp_path / name).chmod(0o755)
    process = subprocess.Popen(container["command"], env={"PATH": f"{tmp_path}:/usr/bin:/bin"})
    while not (tmp_path / "words").exists():
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) == 42
    words = (tmp_path / "words").read_text().split()
    assert words == ["-m", "experiments.train", "--config=configs/digits_mlp.py", "--workdir=/mnt/bucket/mlp"]


def test_xpk_parses_the_words_that_attach_the_bucket(command, tool, tmp_path):
    text = write(command, tmp_path / "job.sh", "--accelerator=tpu-v5litepod-16").read_text()
    words = re.search(r"#   xpk (storage attach .*) \\\n#     (.*)", text)
    parsed = tool("python", "-c", PARSE, *shlex.split(f"{words[1]} {words[2]}"))
    for wanted in ("'name': 'bucket'", "'type': 'gcsfuse'", "'mount_point': '/mnt/bucket'", "'readonly': False"):
        assert wanted in parsed
