"""An error in a config names the line or the flag that set the value."""

import pytest
from absl import flags
from ml_collections import config_flags

import plumbline
from experiments import config_errors
from experiments.origins import Origins, record
from plumbline import UserError

# ML Collections loads the file by a way that Python 3.12 has no more.
pytestmark = pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")

HEAD = """from configs import digits_mlp


def get_config():
    config = digits_mlp.get_config()
"""


def load(tmp_path, monkeypatch, *lines, overrides=(), head=HEAD, argument=""):
    """The config of a file with these lines (the first is line 6), and the places of its values."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my.py").write_text(head + "".join(f"    {line}\n" for line in lines) + "    return config\n")
    arguments = ["program", f"--config=my.py{argument}", *overrides]
    values, origins = flags.FlagValues(), Origins()
    config_flags.DEFINE_config_file("config", None, flag_values=values, sys_argv=arguments)
    with record(origins):
        values(arguments)
    return values.config, origins


@pytest.mark.parametrize(
    "line",
    [
        "config.optimizer.momentum = 0.5",
        "config.optimizer['momentum'] = 0.5",
        "config.optimizer.update(momentum=0.5)",
        "config.update({'optimizer': {'momentum': 0.5}})",
        "config.update_from_flattened_dict({'optimizer.momentum': 0.5})",
        "[setattr(config.optimizer, name, 0.5) for name in ('momentum',)]",
        "config.optimizer.momentum = 0.5; config = config.copy_and_resolve_references()",
    ],
)
def test_the_line_that_set_a_field_is_found(tmp_path, monkeypatch, line):
    config, origins = load(tmp_path, monkeypatch, "pass", line)
    assert config.optimizer.momentum == 0.5
    assert origins.find(config, "optimizer.momentum") == "my.py:7"
    # The defaults set it, or nothing is there.
    assert origins.find(config, "optimizer.nesterov") == ""
    assert origins.find(config, "optimizer.momentun") == ""
    assert origins.find(config, "optimizer.momentum.x") == ""


def test_the_last_line_counts_and_flags_go_before_lines(tmp_path, monkeypatch):
    lines = ["config.seed = 1", "config.seed = 2", "config.train.batch_size = 8"]
    config, origins = load(tmp_path, monkeypatch, *lines, overrides=["--config.train.batch_size=4"])
    assert (config.seed, origins.find(config, "seed")) == (2, "my.py:7")
    assert (config.train.batch_size, origins.find(config, "train.batch_size")) == (4, "--config.train.batch_size")


def test_a_value_of_the_recipe_that_a_config_starts_from_is_found_there(tmp_path, monkeypatch):
    config, origins = load(tmp_path, monkeypatch)
    file, _, line = origins.find(config, "model.name").partition(":")
    assert file == "configs/digits_mlp.py"
    from plumbline.rooms import CHECKOUT

    assert "config.model.name" in (CHECKOUT / file).read_text().splitlines()[int(line) - 1]


def test_messages_get_the_place_of_the_field_they_begin_with(tmp_path, monkeypatch):
    lines = ["config.optimizer.learning_rate = -1.0", "config.mesh.data = 3"]
    config, origins = load(tmp_path, monkeypatch, *lines, overrides=["--config.seed=-1", "--config.parallel.mode=pmap"])
    for message, located in {
        "optimizer.learning_rate: -1.0 given": "my.py:6: optimizer.learning_rate: -1.0 given",
        "mesh: data=3 does not multiply": "my.py:7: mesh: data=3 does not multiply",
        "parallel: pmap has no mesh": "--config.parallel.mode: pmap has no mesh",
        "seed: -1 given": "--config.seed: -1 given",
        "optimizer.nesterov: of the defaults": "optimizer.nesterov: of the defaults",
        "--workdir: seed: -1": "--workdir: seed: -1",
        "memory: too little": "memory: too little",
    }.items():
        assert origins.locate(config, message) == located


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("config.optimizer.lerning_rate = 1.0", "my.py:6: unknown field 'lerning_rate'; did you mean 'learning_rate'?"),
        ("config.optimzer.momentum = 1.0", "my.py:6: unknown field 'optimzer'; did you mean 'optimizer'?"),
        ("config.optimizer['zzz'] = 1.0", "my.py:6: unknown field 'zzz'; known here: b1, b2, clip_norm, "),
        ("config.update({'seeds': 1})", "my.py:6: unknown field 'seeds'; did you mean 'seed'?"),
        ("config.train.batch_size = 'x'", "my.py:6: train.batch_size: 'x' is of type str; the field takes int"),
        ("config.train.batch_size = 1.5", "my.py:6: train.batch_size: 1.5 is of type float; the field takes int"),
        ("section = config.train; section.profile = 3", "my.py:6: train.profile: is a section; set one of its fields"),
        ("config.train = 3", "my.py:6: train: is a section; set one of its fields"),
        ("int('x')", "my.py:6: invalid literal for int() with base 10: 'x'"),
        ("import no_such", "my.py:6: no module 'no_such'; install it, or correct the name"),
        ("raise ValueError('no path given')", "my.py:6: no path given"),
        ("raise ValueError('my.py: no path given')", "my.py: no path given"),
        ("{}['x']", "my.py:6: unknown key 'x'"),
        ("config = (", "my.py:6: no valid Python: '(' was never closed"),
        ("config.seed = eval('1+')", "my.py:6: no valid Python: invalid syntax"),
    ],
)
def test_an_error_inside_a_config_file_names_file_and_line(tmp_path, monkeypatch, line, message):
    with pytest.raises(Exception) as raised:
        load(tmp_path, monkeypatch, line)
    described = config_errors.describe(raised.value, ["program", "--config=my.py"])
    assert described.startswith(message)
    assert "\n" not in described


def test_an_error_inside_an_installed_package_names_the_line_that_calls_it(tmp_path, monkeypatch):
    (tmp_path / "dist-packages").mkdir()
    (tmp_path / "dist-packages" / "installed_helper.py").write_text("def halve(config):\n    config.seeds = 1\n")
    monkeypatch.syspath_prepend(tmp_path / "dist-packages")
    with pytest.raises(AttributeError) as raised:
        load(tmp_path, monkeypatch, "import installed_helper", "installed_helper.halve(config)")
    message = config_errors.describe(raised.value, ["program", "--config=my.py"])
    assert message == "my.py:7: unknown field 'seeds'; did you mean 'seed'?"


@pytest.mark.parametrize("head", [HEAD.replace("()", "(argument)", 1), HEAD.replace("()", "(argument='')", 1)])
def test_a_value_out_of_the_argument_of_the_file_is_found_in_the_flag(tmp_path, monkeypatch, head):
    head = head.replace("def ", "def read(text):\n    return text.split(',')\n\n\ndef ")
    lines = [
        "config.data.source = f'csv:{read(argument)[0]}'",
        "config.data.update(target=read(argument)[1].partition('=')[2])",
        "config.model.name = 'mlp'",
        "config.data.group = ''",
    ]
    config, origins = load(tmp_path, monkeypatch, *lines, head=head, argument=":a/mlp.csv,target=outcome")
    assert (config.data.source, config.data.target) == ("csv:a/mlp.csv", "outcome")
    assert origins.find(config, "data.source") == origins.find(config, "data.target") == "--config=my.py:..."
    assert origins.locate(config, "data.target: unknown") == "--config=my.py:...: data.target: unknown"
    assert origins.find(config, "model.name") == "my.py:12"
    assert origins.find(config, "data.group") == "my.py:13"


@pytest.mark.parametrize(
    ("file", "line"),
    [("own_helper.py", "import own_helper"), ("own_package/part.py", "from own_package.part import __name__")],
)
def test_a_module_beside_a_config_file_that_python_does_not_find_is_named(tmp_path, monkeypatch, file, line):
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).touch()
    with pytest.raises(ModuleNotFoundError) as raised:
        load(tmp_path, monkeypatch, line)
    message = config_errors.describe(raised.value, ["program", "--config=my.py"])
    found = tmp_path / file.partition("/")[0]
    assert message == (
        f"my.py:6: no module '{found.stem}'; there is '{found}', but Python does not look in that folder; run again "
        f"with PYTHONPATH={tmp_path}"
    )
    with pytest.raises(UserError) as raised:
        plumbline.load_config("my.py")
    assert str(raised.value) == message
    # As with PYTHONPATH.
    monkeypatch.syspath_prepend(tmp_path)
    assert load(tmp_path, monkeypatch, line)[0].model.name == "mlp"


TABLE_HEAD = """from configs import table


def get_config(argument=""):
    path = argument.partition(",")[0]
"""


@pytest.mark.parametrize(
    ("call", "argument", "place"),
    [
        ("table.get_config('x.csv,target=y')", "", "my.py:6"),
        ("table.get_config('x.csv,target=y')", ":other.csv", "my.py:6"),
        ("table.get_config(argument)", ":x.csv,target=y", "--config=my.py:..."),
        ("table.get_config(f'{path},target=y')", ":x.csv", "--config=my.py:..."),
        ("(lambda path: table.get_config(path))('x.csv,target=y')", ":other.csv", "my.py:6"),
    ],
)
def test_what_one_config_file_passes_to_another_is_found_where_it_comes_from(
    tmp_path, monkeypatch, call, argument, place
):
    config, origins = load(tmp_path, monkeypatch, f"config = {call}", head=TABLE_HEAD, argument=argument)
    assert (config.data.source, config.data.target) == ("csv:x.csv", "y")
    assert origins.find(config, "data.source") == place
    # Not out of the argument.
    assert origins.find(config, "train.patience").startswith("configs/table.py:")


@pytest.mark.parametrize(
    ("call", "argument", "place"),
    [
        ("table.get_config('x.csv,aim=y')", "", "my.py:6: "),
        ("table.get_config()", "", "my.py:6: "),
        ("table.get_config('x.csv,aim=y')", ":other.csv,target=y", "my.py:6: "),
        ("table.get_config(argument)", ":x.csv,aim=y", "--config=my.py:...: "),
        ("table.get_config(f'{argument}')", ":x.csv,aim=y", "--config=my.py:...: "),
    ],
)
def test_a_wrong_argument_is_an_error_where_it_comes_from(tmp_path, monkeypatch, call, argument, place):
    with pytest.raises(Exception) as raised:
        load(tmp_path, monkeypatch, f"config = {call}", head=TABLE_HEAD, argument=argument)
    message = config_errors.describe(raised.value, ["program", f"--config=my.py{argument}"])
    problem = "path or target missing" if call == "table.get_config()" else "unknown option 'aim'; known: "
    assert message.startswith(f"{place}configs/table.py: {problem}")
    assert "; write configs/table.py:PATH,target=COLUMN" in message
    with pytest.raises(UserError) as raised:
        plumbline.load_config(f"my.py{argument}")
    assert str(raised.value) == message.replace("--config", "config")


def test_a_file_that_a_config_cannot_read_is_named(tmp_path, monkeypatch):
    config, _ = load(tmp_path, monkeypatch, "open('/no/such')")
    with pytest.raises(OSError, match="/no/such") as raised:
        config_errors.check_loaded(config, "my.py")
    message = config_errors.describe(raised.value, ["program"])
    assert message == "my.py:6: cannot read '/no/such': No such file or directory"


def test_configs_are_as_before_once_recording_ends(tmp_path, monkeypatch):
    config, origins = load(tmp_path, monkeypatch)
    config.seed = 5
    assert origins.find(config, "seed") == ""
    with pytest.raises(ZeroDivisionError), record(origins):
        raise ZeroDivisionError
    config.seed = 6
    assert origins.find(config, "seed") == ""
