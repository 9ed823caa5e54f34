"""Files of runs that other versions wrote. No run is trained here."""

import json

import pytest

from configs.defaults import get_config
from plumbline import UserError, __version__, provenance
from reporting.run_records import runs
from trainers import settings
from trainers.run.directory import RunDirectory
from tuning.directory import check_same

SECTIONS = sorted(name for name, value in get_config().items() if hasattr(value, "items"))


@pytest.fixture
def directory(tmp_path):
    """A run directory with a config and one start."""
    write(tmp_path, "config", get_config().to_dict())
    write(tmp_path, "provenance", provenance.add_start({}))
    return RunDirectory(tmp_path)


def write(folder, name, value):
    (folder / f"{name}.json").write_text(json.dumps(value))


def test_each_start_records_the_version(directory):
    assert [start["version"] for start in directory.provenance()["starts"]] == [__version__]


@pytest.mark.parametrize("missing", [*SECTIONS, "train.profile", "model.mlp", "provenance"])
def test_a_run_that_lacks_a_newer_section_is_read_and_resumed(directory, missing):
    config = get_config().to_dict()
    parent, _, name = missing.rpartition(".")
    (config[parent] if parent else config).pop(name, None)
    write(directory.path, "config", config)
    if missing == "provenance":
        (directory.path / "provenance.json").unlink()
    assert directory.config() == get_config()
    directory.check(get_config(), overwrite=False)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("train.keep_checkpoints", 1),
        ("train.checkpoint_every", "10 steps"),
        ("train.max_skipped", 3),
        ("train.on_divergence", "rollback"),
        ("evaluation.batch_size", 8),
    ],
)
def test_what_changes_no_result_may_change_on_resume(directory, path, value):
    config = settings.override(get_config(), {path: value})
    directory.check(config, overwrite=False)
    # Searches and populations that were saved when it could not change still open.
    earlier = {"config.seed": 0, f"config.{path}": settings.FIELDS[path].default}
    check_same(earlier, {"config.seed": 0}, "--workdir", "another")


@pytest.mark.parametrize("newer", ["99.0.0", "0.99", "0.1.1"])
def test_a_run_of_a_newer_version_names_it(directory, newer):
    starts = directory.provenance()["starts"]
    write(directory.path, "provenance", {"starts": [*starts, {**starts[0], "version": newer, "commit": "abc"}]})
    message = rf"--workdir: '.*' was written with Plumbline {newer} \(commit abc\), which is newer than .*; use that"
    for read in (directory.config, lambda: directory.check(get_config(), overwrite=False)):
        with pytest.raises(UserError, match=message) as caught:
            read()
        assert "overwrite" not in str(caught.value)
    write(directory.path, "features", {})
    assert runs(directory.path)["status"].tolist() == ["newer version"]


@pytest.mark.parametrize("starts", [[], [{}], [{"version": None}], [{"version": "0.0.9"}], [7], None, [{"version": 3}]])
def test_runs_of_this_and_earlier_versions_are_read(directory, starts):
    write(directory.path, "provenance", {"starts": starts})
    assert directory.config() == get_config()


def test_a_run_with_unknown_fields_names_the_version_that_wrote_it(directory):
    config = get_config().to_dict()
    config["optimizer"]["later"] = 1
    write(directory.path, "config", config)
    message = rf"fields that are unknown here \(optimizer.later\); resume it with Plumbline {__version__}"
    with pytest.raises(UserError, match=message) as caught:
        directory.check(get_config(), overwrite=False)
    assert "overwrite" not in str(caught.value)


@pytest.mark.parametrize("features", [{"later": 1}, {"kind": "table"}])
def test_features_that_cannot_be_read_name_the_version_that_wrote_them(directory, features):
    write(directory.path, "features", features)
    message = rf"features.json cannot be read .*; it was written with Plumbline {__version__}"
    with pytest.raises(UserError, match=message):
        directory.features()
