"""`plumbline prepare` as users run it: with Apache Beam from its own environment, and without."""

import contextlib
import errno
import hashlib
import json
import os
import shutil
import signal
import subprocess
import time

import numpy as np
import pytest

import data
from configs import defaults
from data import batches
from data.sources import open_source
from tests.conftest import CHECKOUT, Command

# What is prepared there is read here: the environment of Beam has older versions of some packages that are shared.
BEAM = CHECKOUT / ".venv-prepare" / "bin" / "python"
needs_beam = pytest.mark.skipif(not BEAM.exists(), reason="no .venv-prepare with Apache Beam; make install-prepare")


class _BeamCommand(Command):
    def arguments(self, name, *words):
        return [str(BEAM), *super().arguments(name, *words)[1:]]


beam = _BeamCommand()


@pytest.fixture(scope="module")
def digits(command, tmp_path_factory):
    folder = tmp_path_factory.mktemp("samples") / "samples"
    command("samples", folder)
    return folder / "digits"


def load(source, cache, **fields):
    config = defaults.get_config().data
    config.update({"source": source, "cache_dir": str(cache), **fields})
    return open_source(config), data.load(config, seed=5)


def files(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def lines(text):
    return [line for line in text.splitlines() if line.strip()]


@needs_beam
def test_beam_gives_the_same_examples_as_reading_the_folder(digits, tmp_path):
    output = tmp_path / "prepared"
    finished = beam("prepare", f"--source=folder:{digits}", f"--output={output}", "--shards=3")
    assert finished.stdout == (
        f"{output}: 382 images in test, 1415 images in train\nread it with --config.data.source=prepared:{output}\n"
    )
    assert finished.stderr == ""
    (source, ours), (folder, truth) = (
        load(f"{scheme}:{path}", tmp_path / scheme) for scheme, path in (("prepared", output), ("folder", digits))
    )
    assert (ours.features, ours.fingerprint) == (truth.features, truth.fingerprint)
    assert set(ours.splits) == {"train", "validation", "test"}
    for name, split in truth.splits.items():
        np.testing.assert_array_equal(ours.splits[name].rows, split.rows)
        np.testing.assert_array_equal(ours.splits[name].labels, split.labels)
        rows = np.arange(len(split))
        np.testing.assert_array_equal(ours.splits[name].read(rows), split.read(rows))
    for name in ("train", "test"):
        prepared, read = source.part(name).records, folder.part(name).records
        rows = range(len(read))
        assert [prepared.read_encoded(row) for row in rows] == [read.read_encoded(row) for row in rows]
    for step in (0, 1, 40):
        batch, expected = (
            batches.TrainBatches(dataset.splits["train"], batch_size=64, seed=5).read(step) for dataset in (ours, truth)
        )
        for key, values in expected.items():
            np.testing.assert_array_equal(batch[key], values, err_msg=key)


@needs_beam
@pytest.mark.slow
def test_other_processes_and_the_portable_runner_write_the_very_same_files(command, digits, tmp_path):
    """Two worker processes; a job server, as Flink and Spark have one; and no Beam: equal to the byte."""
    words = f"--source=folder:{digits}", "--shards=4"
    command("prepare", *words, f"--output={tmp_path / 'none'}", "--runner=none")
    options = "--direct_num_workers=2", "--direct_running_mode=multi_processing"
    beam("prepare", *words, f"--output={tmp_path / 'processes'}", "--", *options)
    server = subprocess.Popen(
        [BEAM, "-m", "apache_beam.runners.portability.local_job_service_main", f"--port_file={tmp_path / 'port'}"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for(lambda: (tmp_path / "port").exists() and (tmp_path / "port").read_text())
        options = f"--job_endpoint=localhost:{(tmp_path / 'port').read_text()}", "--environment_type=LOOPBACK"
        beam("prepare", *words, f"--output={tmp_path / 'portable'}", "--runner=PortableRunner", "--", *options)
    finally:
        server.kill()
        server.wait()
    ours = files(tmp_path / "none")
    assert len(ours) == 12
    assert files(tmp_path / "processes") == files(tmp_path / "portable") == ours


@needs_beam
def test_beam_names_an_unreadable_image_and_leaves_nothing(digits, tmp_path):
    folder = shutil.copytree(digits, tmp_path / "digits")
    broken = sorted((folder / "train" / "6").iterdir())[3]
    broken.write_bytes(b"no image")
    words = f"--source=folder:{folder}", f"--output={tmp_path / 'prepared'}"
    finished = beam("prepare", *words, code=2)
    (line,) = lines(finished.stderr)
    assert line.startswith(f"error: --source: '{broken}' cannot be prepared (")
    assert line.endswith("; fix or remove, and run it again")
    assert [path.name for path in tmp_path.iterdir()] == ["digits"]


@needs_beam
@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--runner=Flink"], "error: --runner: unknown name 'Flink'; did you mean 'FlinkRunner'?"),
        (
            ["--runner=DataflowRunner"],
            "error: --runner: DataflowRunner cannot be used (Pipeline has validations errors",
        ),
        (["--", "--direct_num_worker=2"], "Beam has no '--direct_num_worker'; did you mean '--direct_num_workers'?"),
        (["--", "--direct_num_workers=x"], "pipeline options: argument --direct_num_workers: invalid int value: 'x'"),
        (["--", "--direct_num_workers", "2"], "pipeline options: '2' is not an option; write --name=value"),
        (
            ["--runner=PortableRunner", "--", "--job_endpoint=localhost:1", "--job_server_timeout=1"],
            "error: --runner: the pipeline failed (",
        ),
    ],
)
def test_a_wrong_runner_or_option_is_told_in_one_line(words, message, digits, tmp_path):
    finished = beam("prepare", f"--source=folder:{digits}", f"--output={tmp_path / 'prepared'}", *words, code=2)
    (line,) = lines(finished.stderr)
    assert message in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "--source: missing"),
        (["--source=folder:/no/such"], "--output: missing"),
        (
            ["--source=folder:/no/such", "--output=OUT"],
            "--runner: DirectRunner needs Apache Beam, which is not installed here",
        ),
        (["--source=folder:/no/such", "--output=OUT", "--runner=none"], "--source: no such folder '/no/such'"),
        (["--source=sklearn:iris", "--output=OUT", "--runner=none"], "image folders can: write folder:PATH"),
        (["--source=folder:/no/such", "--output=OUT", "--shards=-1"], "--shards"),
        (["stray", "--source=folder:/no/such", "--output=OUT"], "'stray': this command takes flags only"),
    ],
)
def test_wrong_flags_are_told_in_one_line(fails, tmp_path, words, message):
    assert message in fails("prepare", *(word.replace("OUT", str(tmp_path / "out")) for word in words))
    assert list(tmp_path.iterdir()) == []


def test_help_is_the_documentation_of_the_command(command):
    assert "plumbline prepare" in command("prepare", "--help").stdout


def test_a_full_disk_is_told_and_leaves_nothing(command, digits, tmp_path):
    words = command.arguments("prepare", f"--source=folder:{digits}", f"--output={tmp_path / 'out'}", "--runner=none")
    # Files of at most 100 KiB.
    limited = ["bash", "-c", 'ulimit -f 100; exec "$@"', "bash", *words]
    finished = subprocess.run(
        limited, cwd=CHECKOUT, env=command.environment, capture_output=True, text=True, check=False
    )
    (line,) = lines(finished.stderr)
    assert finished.returncode == 2
    assert f"error: --output: '{tmp_path / 'out'}' cannot be written (write() failed: File too large" in line
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def stuck(digits, tmp_path):
    """A copy of the digits, one image of which is a pipe: whoever reads it waits until somebody writes to it."""
    folder = shutil.copytree(digits, tmp_path / "digits")
    # Not one of the evenly spaced images that are read first, for the fingerprint.
    row = np.setdiff1d(np.arange(1415), np.linspace(0, 1414, 1024).astype(int))[0]
    image = sorted((folder / "train").glob("*/*.png"))[row]
    kept = image.read_bytes()
    image.unlink()
    os.mkfifo(image)
    return folder, image, kept


@contextlib.contextmanager
def started(command, *words):
    process = command.start(*words)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def let_go(pipe):
    """Lets whoever reads the pipe go on; whether there was anybody."""
    try:
        os.close(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK))
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
        return False
    return True


@pytest.mark.slow
def test_a_killed_preparation_leaves_no_set_and_can_be_run_again(command, fails, stuck, tmp_path):
    folder, image, kept = stuck
    output = tmp_path / "prepared"
    words = f"--source=folder:{folder}", f"--output={output}", "--runner=none", "--shards=2"
    with started(command, "prepare", *words):
        wait_for(lambda: list(tmp_path.glob(".prepared.*/parts/*-test.array_record-*")))
    training = f"--config=configs/image_folder.py:{folder}", f"--config.data.source=prepared:{output}"
    line = fails("train", *training, f"--workdir={tmp_path / 'run'}")
    assert f"data.source: no such folder '{output}'" in line
    image.unlink()
    image.write_bytes(kept)
    assert "1415 images in train" in command("prepare", *words).stdout
    assert json.loads((output / "prepared.json").read_text())["splits"]["train"]["shards"]


def test_a_preparation_that_is_told_to_stop_takes_its_files_away(command, stuck, tmp_path):
    folder, image, _ = stuck
    words = f"--source=folder:{folder}", f"--output={tmp_path / 'out'}", "--runner=none"
    with started(command, "prepare", *words) as process:
        wait_for(lambda: list(tmp_path.glob(".out.*/parts/*-test.array_record-*")))
        process.send_signal(signal.SIGTERM)
        # The file at hand is finished first; on a busy machine it may not have come to that one yet.
        wait_for(lambda: process.poll() is not None or let_go(image))
        assert process.wait(60) == 130
    assert [path.name for path in tmp_path.iterdir()] == ["digits"]


@pytest.mark.slow
def test_a_run_on_the_prepared_set_is_the_run_on_the_folder(command, digits, tmp_path):
    output = tmp_path / "prepared"
    command("prepare", f"--source=folder:{digits}", f"--output={output}", "--runner=none", "--shards=2")
    metrics = []
    for source in (f"folder:{digits}", f"prepared:{output}"):
        workdir, evaluated = tmp_path / f"run {len(metrics)}", tmp_path / f"{len(metrics)}.json"
        words = (
            f"--config=configs/image_folder.py:{digits}",
            f"--config.data.source={source}",
            "--config.model.name=mlp",
        )
        quick = "--config.train.duration=20 steps", "--config.execution.mode=loop", "--config.train.tensorboard=False"
        command("train", *words, *quick, f"--workdir={workdir}")
        command("evaluate", f"--workdir={workdir}", "--split=test", f"--output={evaluated}")
        metrics.append(json.loads(evaluated.read_text()))
    assert metrics[0] == metrics[1]
    assert metrics[0]["accuracy"] > 0.5


def test_a_folder_of_texts_is_not_prepared(fails, tmp_path):
    for name in ("bad", "good"):
        (tmp_path / "poems" / name).mkdir(parents=True)
        (tmp_path / "poems" / name / "0.txt").write_text("Tyger")
    line = fails("prepare", f"--source=folder:{tmp_path / 'poems'}", f"--output={tmp_path / 'out'}", "--runner=none")
    assert line.startswith(f"--source: 'folder:{tmp_path / 'poems'}' holds texts; only images are prepared")
    assert not (tmp_path / "out").exists()
