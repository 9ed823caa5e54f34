import pytest
from absl import flags
from ml_collections import config_flags

from experiments import recipes
from plumbline import UserError

# ML Collections loads the file by a way that Python 3.12 has no more.
pytestmark = pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")

RECIPE = """
from configs import defaults

SIZES = (16, 32)

def get_config(argument=""):
    return defaults.get_config()

def sweep():
    return {"model.mlp.hidden_sizes": [(size,) for size in SIZES]}

ablations = {"baseline": {}}
"""


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("configs", "'configs' is a folder; name a config file"),
        ("configs/tabel.py", "no file 'configs/tabel.py'; did you mean 'configs/table.py'?"),
        ("/no/such/x.py", "no file '/no/such/x.py'; the shipped ones are in configs/"),
    ],
)
def test_a_config_that_is_no_file_is_named_with_the_nearest(name, message):
    assert message in recipes.describe_missing(name)


@pytest.fixture
def flag(tmp_path):
    """The name of a --config flag whose value is a file with `sweep`, and an `ablations` that is no function."""
    path = tmp_path / "mine.py"
    path.write_text(RECIPE)
    values = flags.FlagValues()
    config_flags.DEFINE_config_file("config", None, flag_values=values)
    values(["program", f"--config={path}:argument"])
    return values, path


def test_functions_of_a_config_file_are_found_with_what_they_use(flag):
    values, path = flag
    assert recipes.find_function("sweep", flag_values=values)() == {"model.mlp.hidden_sizes": [(16,), (32,)]}
    assert recipes.config_path(flag_values=values) == path


def test_what_is_no_function_or_missing_is_none(flag):
    values, path = flag
    assert recipes.find_function("ablations", flag_values=values) is None
    assert recipes.find_function("nothing", flag_values=values) is None
    error = recipes.missing_function("ablations", "a dict from name to overrides", flag_values=values)
    assert isinstance(error, UserError)
    assert str(error) == (
        f"--config: '{path}' has no function ablations(); add one that returns a dict from name to overrides"
    )
