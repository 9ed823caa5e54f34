"""What a user can get wrong: one line that says what, where and what to do, exit code 2, and nothing lost."""

import json
import os
import subprocess

import pytest

from tests.conftest import POEM

MLP = "--config=configs/digits_mlp.py"
TEXT_FIELDS = {"model.name": "gpt", "data.tokenizer": "characters", "data.text_length": 8}


@pytest.fixture
def table(tmp_path):
    """Writes a table with one changed cell or more, and gives the words of a training on it."""

    def write(header="age,city,label", rows=None, name="people.csv"):
        if rows is None:
            rows = [f"{20 + n % 50},{'ABC'[n % 3]},{'yes' if n % 2 else 'no'}" for n in range(60)]
        (tmp_path / name).write_text("\n".join([header, *rows]) + "\n")
        return f"--config=configs/table.py:{tmp_path / name},target=label"

    return write


def images(folder, classes=("cat", "dog"), splits=("train", "test"), count=12):
    from PIL import Image

    for split in splits:
        for number, name in enumerate(classes):
            for image in range(count):
                path = folder / split / name / f"{image}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.new("L", (8, 8), 100 * number + image).save(path)
    return f"--config=configs/image_folder.py:{folder}"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([MLP, "--config.optimizer.lerning_rate=1"], "unknown field 'lerning_rate'; did you mean 'learning_rate'?"),
        ([MLP, "--config.optimizer.lr=1"], "--config.optimizer.lr: unknown field 'lr'; did you mean 'learning_rate'?"),
        ([MLP, "--config.optimizer=1"], "--config.optimizer: is a section; set one of its fields"),
        ([MLP, "--config.optimizer.learning_rate=fast"], "--config.optimizer.learning_rate: 'fast' is not a number"),
        ([MLP, "--config.train.batch_size=2.5"], "--config.train.batch_size: '2.5' is not a whole number"),
        ([MLP, "--overwrite=perhaps"], "--overwrite: 'perhaps' is neither true nor false"),
        ([MLP, "--distributed=yes"], "--distributed: unknown name 'yes'; known: auto, off, explicit"),
        ([MLP, "--config.train.batch_size=0"], "--config.train.batch_size: 0 given; it must be at least 1"),
        ([MLP, "--config.model.dropout=1.0"], "model.dropout: 1.0 given; it must be at least 0 and less than 1"),
        ([MLP, "--config.model.name=mpl"], "--config.model.name: unknown name 'mpl'; did you mean 'mlp'?"),
        ([MLP, "--config.train.duration=long"], "train.duration: 'long' is not a duration"),
        ([MLP, "--config.train.duration=0 steps"], "train.duration: '0 steps' is less than one step"),
        ([MLP, "--config.train.best_metric=acuracy"], "train.best_metric: unknown name 'acuracy'; did you mean"),
        ([MLP, "--config.transfer.source=/no/such"], "transfer.source: no such file or directory '/no/such'"),
        ([MLP, "--config.transfer.freeze=('hiden',)"], "transfer.freeze: 'hiden' is found in no parameter"),
        ([MLP, "--config.transfer.freeze=('.',)"], "transfer.freeze: ('.',) are found in all parameters, so"),
        ([MLP, "--config.transfer.layer_decay=1.5"], "transfer.layer_decay: 1.5 given; it must be at least 0"),
        ([MLP, "--config.transfer.unfreeze=('head',)"], "transfer.unfreeze: 'head' is not a pair of a"),
        ([MLP, "--config.prune.sparsity=1.0"], "prune.sparsity: 1.0 given; it must be at least 0 and less than 1"),
        (
            [MLP, "--config.prune.sparsity=0.8", "--config.prune.end=101 epochs"],
            "prune.end: '101 epochs' is 2014 steps",
        ),
        (
            [MLP, "--config.mesh.data=3"],
            "--config.mesh.data: data=3 x fsdp=1 x tensor=1 does not multiply to the 1",
        ),
        ([MLP, "--config.model.remat=some"], "model.remat: unknown name 'some'; "),
        ([MLP, "--config.parallel.mode=pmep"], "parallel.mode: unknown name 'pmep'; did you mean 'pmap'?"),
        ([MLP, "--config.parallel.rules=(('heads', ('fsdp',)),)"], "parallel.rules: 'heads' is found in no parameter"),
        ([MLP, "--config.data.source=digit"], "data.source: unknown name 'digit'; did you mean 'digits'?"),
        ([MLP, "--config.data.source=sklearn:iriss"], "did you mean 'sklearn:iris'?"),
        ([MLP, "--config.data.source=tfds:no_such_set"], "data.source: TFDS has no data set 'no_such_set'"),
        ([MLP, "--config.data.source=folder:/no/such"], "data.source: no such folder '/no/such'"),
        ([MLP, "--config.augment.cutmix=1.0", "--config.data.source=sklearn:iris"], "augment.cutmix: is for images"),
        ([MLP, "--confg.seed=1"], "Unknown command line flag 'confg.seed'"),
        (["--config=configs/no_such.py"], "--config: no file 'configs/no_such.py'"),
        (["--config=configs/table.py"], "configs/table.py: path or target missing"),
        (["--config=configs/table.py:/no/such.csv,target=x"], "--config=configs/table.py:...: data.source: no such"),
        (["--config=configs/table.py:a.csv,targt=x"], "unknown option 'targt'; did you mean 'target'? known: target, "),
        ([MLP, "--config.train.duration.x=5"], "--config.train.duration.x: a field has no fields of its own; "),
        ([MLP, "--config.data.classes.x=5"], "--config.data.classes.x: a field has no fields of its own; "),
        ([MLP, "--config.seed.x=5"], "--config.seed.x: a field has no fields of its own; "),
        ([], "--config: missing"),
        ([MLP, "stray"], "'stray': this command takes flags only"),
    ],
)
def test_a_wrong_config_or_flag_is_a_one_line_error(fails, tmp_path, words, message):
    workdir = tmp_path / "run"
    assert message in fails("train", *words, f"--workdir={workdir}")
    # Nothing was begun: the corrected command finds the directory free.
    assert not workdir.exists() or not list(workdir.iterdir())


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("config.train.batch_size = 0", "{file}:6: train.batch_size: 0 given; it must be at least 1"),
        ("config.train.batch_sise = 8", "{file}:6: unknown field 'batch_sise'; did you mean 'batch_size'?"),
        ("config.mesh.data = 3", "{file}:6: mesh: data=3 x fsdp=1 x tensor=1 does not multiply to the 1 device there"),
        ("config.data.source = 'sklearn:iriss'", "{file}:6: data.source"),
    ],
)
def test_a_wrong_line_of_a_config_file_is_named(fails, tmp_path, line, message):
    file = tmp_path / "my.py"
    start = "from configs import digits_mlp\n\n\ndef get_config():\n    config = digits_mlp.get_config()\n"
    file.write_text(f"{start}    {line}\n    return config\n")
    assert fails("train", f"--config={file}", f"--workdir={tmp_path / 'run'}").startswith(message.format(file=file))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("{'seed': 0}", "returned dict; return the config"),
        ("3", "returned int; return the config"),
        ("None", "returned None; return the config"),
        ("ConfigDict({'seed': 0})", "returned a config that lacks 'augment', 'data', 'evaluation' and "),
    ],
)
def test_a_file_that_returns_no_whole_config_is_an_error(fails, tmp_path, value, message):
    file = tmp_path / "my.py"
    file.write_text(f"from ml_collections import ConfigDict\n\ndef get_config():\n    return {value}\n")
    for more in ([], ["--config.train.batch_size=1"]):
        line = fails("train", f"--config={file}", *more, f"--workdir={tmp_path / 'run'}")
        assert line.startswith(f"{file}: get_config() {message}")


def test_a_missing_workdir_is_an_error(fails):
    assert "--workdir: missing" in fails("train", MLP)


def test_a_batch_that_the_devices_cannot_share_is_an_error(command, fails, tmp_path, monkeypatch):
    environment = {**command.environment, "XLA_FLAGS": "--xla_force_host_platform_device_count=8"}
    monkeypatch.setattr(type(command), "environment", environment)
    line = fails("train", MLP, "--config.train.batch_size=20", f"--workdir={tmp_path / 'run'}")
    assert "train.batch_size: 20 is not divisible over 8 parts" in line


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"header": "age,city,lable"}, "did you mean 'lable'"),
        ({"rows": [f"{n},A,yes" for n in range(60)]}, "label"),
        ({"rows": []}, "people.csv"),
        ({"rows": [f"{'inf' if n == 7 else n},A,{n % 2}" for n in range(60)]}, "age"),
        ({"header": "age,when,label", "rows": [f"{n},2024-01-{n % 28 + 1:02},{n % 2}" for n in range(60)]}, "when"),
        ({"rows": ["1,A"] * 60}, "people.csv"),
    ],
)
def test_a_wrong_table_is_a_one_line_error(fails, table, tmp_path, changed, message):
    assert message in fails("train", table(**changed), f"--workdir={tmp_path / 'run'}")
    assert not (tmp_path / "run").exists() or not list((tmp_path / "run").iterdir())


def test_an_empty_file_is_an_error(fails, tmp_path):
    (tmp_path / "empty.csv").write_text("")
    line = fails(
        "train", f"--config=configs/table.py:{tmp_path / 'empty.csv'},target=x", f"--workdir={tmp_path / 'run'}"
    )
    assert "empty.csv" in line


def test_a_label_that_training_never_saw_is_an_error(fails, table, tmp_path):
    config = table()
    table(name="test.csv", rows=["30,A,perhaps"] * 5)
    line = fails("train", config, f"--config.data.test={tmp_path / 'test.csv'}", f"--workdir={tmp_path / 'run'}")
    assert "perhaps" in line


def test_an_empty_class_folder_is_an_error(fails, tmp_path):
    config = images(tmp_path / "pictures")
    (tmp_path / "pictures" / "train" / "bird").mkdir()
    assert "bird" in fails("train", config, f"--workdir={tmp_path / 'run'}")


def test_corrupt_images_are_named_and_as_many_as_allowed_are_skipped(command, fails, tmp_path):
    config = images(tmp_path / "pictures")
    (tmp_path / "pictures" / "train" / "cat" / "3.png").write_bytes(b"no image")
    words = (config, f"--workdir={tmp_path / 'run'}", "--config.train.duration=2 steps", "--config.data.image_size=8")
    words += ("--config.model.name=linear", "--config.train.batch_size=8", "--config.data.validation=none")
    line = fails("train", *words)
    assert "3.png" in line
    assert "data.max_corrupt" in line
    command("train", *words, "--config.data.max_corrupt=1")


def test_a_run_of_another_config_is_not_touched(command, fails, quick_run):
    before = {path: path.stat().st_mtime_ns for path in quick_run.rglob("*") if path.is_file()}
    line = fails("train", MLP, f"--workdir={quick_run}")
    assert "holds a run of another config" in line
    assert "train.duration is '30 steps' there, '100 epochs' here" in line
    assert "--overwrite" in line
    assert {path: path.stat().st_mtime_ns for path in quick_run.rglob("*") if path.is_file()} == before


def test_a_workdir_that_cannot_be_written_is_an_error(fails, tmp_path):
    (tmp_path / "file").write_text("")
    assert "file' is a file, not a folder" in fails("train", MLP, f"--workdir={tmp_path / 'file' / 'run'}")


@pytest.fixture
def locked(tmp_path):
    """A folder that nobody may write to: for root, whom no mode keeps out, one of a file system that is read-only."""
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o500)
    if os.geteuid():
        yield folder
    elif subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", folder], capture_output=True).returncode:
        pytest.skip("root may write everywhere, and may not mount here")
    else:
        yield folder
        subprocess.run(["umount", folder], check=True)


def test_a_workdir_without_permission_is_an_error(fails, locked):
    assert "--workdir: cannot write to" in fails("train", MLP, f"--workdir={locked / 'run'}")


@pytest.mark.parametrize("name", ["evaluate", "predict"])
def test_a_directory_without_a_run_is_an_error(fails, tmp_path, name):
    words = ["--split=test"]
    assert "is it the directory of a run?" in fails(name, f"--workdir={tmp_path}", *words)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "name inputs (images, texts, folders, tables) or a --split"),
        (["/no/such.png"], "no such file or folder '/no/such.png'"),
        (["pyproject.toml"], "'pyproject.toml' has the wrong type"),
        (["--split=tset"], "--split: unknown name 'tset'; did you mean 'test'?"),
        (["--split=test", "--checkpoint=newest"], "checkpoint"),
        (["--split=test", "--limit=0"], "limit"),
    ],
)
def test_a_wrong_prediction_is_an_error(fails, quick_run, words, message):
    assert message in fails("predict", f"--workdir={quick_run}", *words)


def test_a_table_without_an_input_column_is_an_error(command, fails, table, tmp_path):
    workdir = f"--workdir={tmp_path / 'run'}"
    command("train", table(), workdir, "--config.train.duration=2 steps", "--config.train.batch_size=8")
    table(header="age,town,label", name="other.csv")
    assert "city" in fails("predict", workdir, tmp_path / "other.csv")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"data.tokenizer": ""}, "data.tokenizer: not set"),
        ({"data.tokenizer": "/no/such.json"}, "data.tokenizer: no such file '/no/such.json'"),
        ({"objective.name": "masked_token"}, "objective.name: 'masked_token' needs a tokenizer with a token [MASK]"),
        ({"data.text_length": 900}, "data.text_length: 900, but the train split has"),
        ({"data.text": "line"}, "data.text: names a column, but 'text:"),
        ({"augment.flip": True}, "augment.flip: is for images, but 'text:"),
        (
            {"objective.label_smoothing": 0.1},
            "objective.label_smoothing: is for classification, but the data are for l",
        ),
        ({"model.name": "mlp"}, "model.name: 'mlp' reads no texts, but 'text:"),
    ],
)
def test_what_cannot_be_done_with_a_text_is_an_error_and_nothing_is_written(fails, tmp_path, changed, message):
    (tmp_path / "poem.txt").write_text(POEM * 3)
    fields = {**TEXT_FIELDS, "data.source": f"text:{tmp_path / 'poem.txt'}", **changed}
    words = [f"--config.{name}={value}" for name, value in fields.items()]
    assert message in fails("train", MLP, *words, f"--workdir={tmp_path / 'run'}")
    assert not (tmp_path / "run").exists() or not list((tmp_path / "run").iterdir())


@pytest.mark.parametrize(
    ("name", "words", "who"),
    [
        ("crossvalidate", [], "--folds"),
        ("learning_curve", [], "learning_curve"),
        ("sweep", ["--folds=3", "--trials=2"], "--folds"),
    ],
)
def test_windows_of_one_text_are_not_dealt_into_folds(fails, tmp_path, name, words, who):
    (tmp_path / "poem.txt").write_text(POEM * 30)
    fields = {**TEXT_FIELDS, "data.source": f"text:{tmp_path / 'poem.txt'}"}
    (tmp_path / "config.py").write_text(
        "from configs import defaults\n\n\ndef get_config():\n    config = defaults.get_config()\n"
        f"    config.update_from_flattened_dict({fields!r})\n    return config\n\n\n"
        "def sweep():\n    return {'optimizer.learning_rate': [1e-3, 3e-3]}\n"
    )
    line = fails(name, f"--config={tmp_path / 'config.py'}", *words, f"--workdir={tmp_path / 'run'}")
    assert line.startswith(f"{who}: splits examples at random, but windows of one text are not independent")


def test_samples_are_not_written_over_files(fails, tmp_path):
    (tmp_path / "file").write_text("")
    assert "is not empty" in fails("samples", tmp_path)


def test_changed_data_are_an_error_in_evaluation(command, fails, table, tmp_path):
    workdir = f"--workdir={tmp_path / 'run'}"
    command("train", table(), workdir, "--config.train.duration=2 steps", "--config.train.batch_size=8")
    table(rows=[f"{40 + n % 50},{'ABC'[n % 3]},{'yes' if n % 2 else 'no'}" for n in range(60)])
    assert "holds other data than when this run began" in fails("evaluate", workdir)
    assert json.loads((tmp_path / "run" / "status.json").read_text())["status"] == "done"
