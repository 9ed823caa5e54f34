"""What the reference libraries answer with exported weights; run in their environment.

    python tests/references/read_exported.py FOLDER

For each FOLDER/NAME, with NAME as that of a fixture, reads the weights in `exported` and the images (N, H, W, 3) in
`images.npy`, and writes `logits.npy`. Nothing may be missing or left over.
"""

import json
import pathlib
import sys

import make_fixtures
import numpy as np
import timm
import torch
import transformers
from safetensors.torch import load_file


def main() -> None:
    for folder in sorted(pathlib.Path(sys.argv[1]).iterdir()):
        images = torch.from_numpy(np.load(folder / "images.npy")).permute(0, 3, 1, 2)
        torch.manual_seed(0)
        with torch.no_grad():
            np.save(folder / "logits.npy", _answer(folder.name, folder / "exported", images).numpy())


def _answer(name: str, exported: pathlib.Path, images: torch.Tensor) -> torch.Tensor:
    if name.startswith("hf_"):
        model, info = transformers.AutoModelForImageClassification.from_pretrained(exported, output_loading_info=True)
        assert not any(info.values()), (name, info)
        return model.eval()(images).logits
    if name.startswith("npz_"):
        arguments = {} if name == "npz_augreg" else make_fixtures.BIG_VISION
        sizes = make_fixtures.TIMM_VIT | {"img_size": images.shape[-1]}
        with np.load(exported / "weights.npz") as arrays:
            classes = next(len(arrays[each]) for each in arrays if each.endswith("head/bias"))
        model = timm.models.VisionTransformer(**sizes, num_classes=classes, **arguments).eval()
        model.load_pretrained(str(exported / "weights.npz"))
        return model(images)
    config = json.loads((exported / "config.json").read_text(encoding="utf-8"))
    model = make_fixtures.TIMM[name](num_classes=config["num_classes"], **config["model_args"]).eval()
    model.load_state_dict(load_file(exported / "model.safetensors"))
    return model(images)


if __name__ == "__main__":
    main()
