import importlib
import pathlib

from configs import defaults

NAMES = sorted(path.stem for path in pathlib.Path(defaults.__file__).parent.glob("*.py"))
NAMES = [name for name in NAMES if name not in ("__init__", "arguments", "defaults", "fields")]
ARGUMENTS = {
    "gpt_tinyshakespeare": ["plays.txt"],
    "image_folder": ["pictures"],
    "table": ["people.csv,target=income"],
    "transfer_resnet50": ["pictures,source=weights"],
    "transfer_text_minilm": ["texts"],
    "transfer_vit_b16": ["pictures,source=weights"],
}
# Configs that take the model of weights which are not at hand: what they say that these hold.
PRETRAINED = {"transfer_resnet50": "resnet", "transfer_text_minilm": "bert", "transfer_vit_b16": "vit"}


def load(name):
    """A shipped config, with an argument where it takes one."""
    return importlib.import_module(f"configs.{name}").get_config(*ARGUMENTS.get(name, []))
