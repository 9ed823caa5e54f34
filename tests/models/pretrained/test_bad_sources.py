"""Each source that cannot be read is refused in one line that says what to do."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import save_file

from models import pretrained
from plumbline import UserError


@pytest.fixture
def refused(fill):
    """Loads a source into an 8-pixel ViT of three classes; gives the one line that it is refused with."""

    def load(source, *, size=8, **keywords):
        with pytest.raises(UserError) as error:
            fill(source, size=size, num_outputs=3, **keywords)
        assert "\n" not in str(error.value)
        return str(error.value)

    return load


def test_a_source_that_is_not_there(refused, tmp_path):
    assert refused(tmp_path / "x").startswith("transfer.source: no such file or directory")


def test_a_directory_without_weights(refused, tmp_path):
    (tmp_path / "config.json").write_text("{}")
    assert refused(tmp_path).startswith(f"transfer.source: no weights in '{tmp_path}'; expected model.safetensors (or")


@pytest.mark.parametrize("name", ["pytorch_model.bin", "weights.pt", "weights.pth"])
def test_a_pickle_is_never_read(refused, tmp_path, name):
    (tmp_path / name).write_bytes(b"cos\nsystem\n(S'touch hacked'\ntR.")
    for source in (tmp_path, tmp_path / name):
        message = refused(source)
        assert f"'{tmp_path / name}' is a pickle" in message
        assert "safetensors.torch.save_file(torch.load(FILE, weights_only=True), 'model.safetensors')" in message


def test_an_archive_with_a_pickled_array(refused, tmp_path):
    np.savez(tmp_path / "a.npz", x=np.array([{}], object))
    assert "holds 'x' as a pickle" in refused(tmp_path / "a.npz")


def test_a_truncated_archive(refused, tmp_path):
    np.savez(tmp_path / "a.npz", x=np.zeros(1000))
    (tmp_path / "a.npz").write_bytes((tmp_path / "a.npz").read_bytes()[:500])
    assert "'{}' is not a complete .npz file".format(tmp_path / "a.npz") in refused(tmp_path / "a.npz")


def test_another_kind_of_file(refused, tmp_path):
    (tmp_path / "a.h5").write_bytes(b"")
    assert refused(tmp_path / "a.h5").endswith("give a .safetensors or .npz file, or its directory")


@pytest.mark.parametrize("kept", [4, 100, -10])
def test_a_truncated_safetensors_file(refused, save_tiny, kept):
    file = save_tiny() / "model.safetensors"
    file.write_bytes(file.read_bytes()[:kept])
    message = refused(file.parent)
    assert message.startswith(f"transfer.source: '{file}' is not a whole safetensors file (")
    assert message.endswith("; get it again")


def shard(folder, tensors, *, index=None):
    """Two shards of the tensors and their index."""
    names = sorted(tensors)
    files = {}
    for number in (1, 2):
        file = f"model-0000{number}-of-00002.safetensors"
        part = {name: tensors[name] for name in names[number - 1 :: 2]}
        save_file(part, folder / file)
        files |= dict.fromkeys(part, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index(files) if index else files}))
    (folder / "model.safetensors").unlink(missing_ok=True)


def test_shards_are_read_through_their_index(fill, save_tiny, tiny_tensors):
    folder = save_tiny()
    _, whole = fill(folder, size=8, num_outputs=3)
    shard(folder, tiny_tensors)
    _, sharded = fill(folder, size=8, num_outputs=3)
    assert sharded.loaded == whole.loaded


def test_a_shard_that_is_not_there(refused, save_tiny, tiny_tensors):
    folder = save_tiny()
    shard(folder, tiny_tensors)
    (folder / "model-00002-of-00002.safetensors").unlink()
    assert "names the shard 'model-00002-of-00002.safetensors', which is not there" in refused(folder)


def test_a_shard_missing_from_the_index(refused, save_tiny, tiny_tensors):
    folder = save_tiny()
    shard(folder, tiny_tensors, index=lambda files: {name: file for name, file in files.items() if "-00001-" in file})
    assert "the shard 'model-00002-of-00002.safetensors' is missing from" in refused(folder)


def test_a_tensor_missing_from_the_index(refused, save_tiny, tiny_tensors):
    folder = save_tiny()
    shard(folder, tiny_tensors, index=lambda files: {name: files[name] for name in files if name != "classifier.bias"})
    assert "'classifier.bias' is in 'model-00001-of-00002.safetensors', but" in refused(folder)


def test_an_index_that_points_elsewhere(refused, save_tiny, tiny_tensors):
    folder = save_tiny()
    shard(folder, tiny_tensors, index=lambda files: dict.fromkeys(files, "../model.safetensors"))
    assert "names '../model.safetensors', which is outside its directory" in refused(folder)


def test_an_architecture_that_is_not_supported(refused, save_tiny):
    message = refused(save_tiny(model_type="swin"))
    assert "is of the type 'swin'; supported: Hugging Face ViT, Hugging Face DeiT, Hugging Face DINOv2," in message
    assert message.endswith("timm ConvNeXt, AugReg or big_vision ViT, Plumbline or Orbax checkpoint")


def test_tensors_of_no_architecture(refused, tmp_path):
    save_file({"x": np.zeros(3, np.float32)}, tmp_path / "a.safetensors")
    says = "has tensors of an unknown architecture"
    alone = ", and no config.json next to it"
    assert f"{says}{alone}; supported:" in refused(tmp_path / "a.safetensors")
    (tmp_path / "config.json").write_text('{"sizes": 3}')
    assert f"{says}; supported:" in refused(tmp_path / "a.safetensors")


def test_a_tensor_that_is_unknown(refused, save_tiny):
    message = refused(save_tiny({"vit.encoder.layer.0.adapter.weight": np.zeros(3, np.float32)}))
    assert "(Hugging Face ViT) holds 'vit.encoder.layer.0.adapter.weight', which belong to no parameter here" in message


def test_a_tensor_that_is_missing_unless_it_may_be(refused, fill, save_tiny):
    folder = save_tiny({"vit.layernorm.weight": None, "vit.layernorm.bias": None})
    message = refused(folder)
    assert "(Hugging Face ViT) lacks 'norm/bias', 'norm/scale'; " in message
    assert "list in transfer.allow which parameters" in message
    _, report = fill(folder, size=8, num_outputs=3, allow=["^norm/"])
    assert [(each.path, each.reason) for each in report.fresh] == [
        ("norm/bias", "transfer.allow"),
        ("norm/scale", "transfer.allow"),
    ]


def test_allowing_what_is_nowhere(refused, save_tiny):
    assert refused(save_tiny(), allow=["nrom"]).startswith("transfer.allow: 'nrom' matches no parameter")
    assert refused(save_tiny(), allow=["("]).startswith("transfer.allow: '(' is not a regular expression")


def test_a_block_that_is_missing(refused, save_tiny):
    message = refused(save_tiny({"vit.encoder.layer.0.layernorm_before.bias": None}))
    assert "lacks number 0 of 'encoder.layer.{block}.layernorm_before.bias'; get it again" in message


def test_shapes_that_cannot_match(refused, save_tiny):
    message = refused(save_tiny({"vit.layernorm.weight": np.zeros(9, np.float32)}))
    assert "'vit.layernorm.weight' of" in message
    assert "has the shape (9,), which cannot become norm/scale of the shape (8,); set the model's fields" in message
    message = refused(save_tiny(), model__vit__depth=3)
    assert (
        "has the shape (2, 8, 8), which cannot become blocks/attention/query/kernel of the shape (3, 8, 8)" in message
    )


def test_sizes_that_no_shape_tells(refused, save_tiny):
    message = refused(save_tiny(), model__vit__heads=4)
    assert message.startswith("model.vit.heads: the weights were trained with 2, not 4; set the model's fields")


def test_a_parameter_that_is_there_twice(refused, save_tiny):
    message = refused(save_tiny({"layernorm.weight": np.zeros(8, np.float32)}))
    assert "holds norm/scale twice, as 'layernorm.weight' and 'vit.layernorm.weight'; leave one of them out" in message


def test_a_head_that_read_something_else_unless_it_is_fresh(refused, fill):
    source = pathlib.Path(__file__).parent.parent.parent / "references" / "fixtures" / "hf_deit_distilled"
    fields = {"model__vit__pooling": "token_and_mean"}
    with pytest.raises(UserError, match=r"model\.vit\.pooling: the weights were trained with 'token_and_distillation'"):
        fill(source, size=12, num_outputs=5, **fields)
    _, report = fill(source, size=12, num_outputs=4, **fields)
    assert [each.path for each in report.fresh] == ["head/bias", "head/kernel"]


def test_positions_that_form_no_grid(refused, save_tiny):
    message = refused(save_tiny({"vit.embeddings.position_embeddings": np.zeros((1, 7, 8), np.float32)}))
    assert message.startswith("transfer.source: 7 position embeddings do not form a square grid of patches")


def test_types_that_are_no_floats(refused, save_tiny):
    message = refused(save_tiny({"vit.layernorm.weight": np.zeros(8, np.int8)}))
    assert "is of type int8; only float32, float16, bfloat16, float64 are read, so save it again in one" in message


def test_a_config_that_does_not_say_enough(refused, save_tiny):
    folder = save_tiny()
    (folder / "config.json").write_text('{"model_type": "vit"}')
    assert "has no 'intermediate_size'" in refused(folder)
    (folder / "config.json").write_text("{")
    assert f"cannot read '{folder / 'config.json'}'" in refused(folder)


def test_layers_that_the_models_here_do_not_have(refused, save_tiny):
    assert "asks for the activation 'relu'; vit has the exact 'gelu' only" in refused(save_tiny(hidden_act="relu"))


def test_a_timm_file_that_does_not_tell_its_heads(tmp_path):
    tensors = {
        "blocks.0.attn.qkv.weight": (24, 8),
        "blocks.0.mlp.fc1.weight": (12, 8),
        "blocks.0.norm1.weight": (8,),
        "patch_embed.proj.weight": (8, 3, 4, 4),
    }
    save_file({name: np.zeros(shape, np.float32) for name, shape in tensors.items()}, tmp_path / "a.safetensors")
    with pytest.raises(UserError, match="does not give its number of attention heads; put"):
        pretrained.architecture(str(tmp_path / "a.safetensors"))


def test_means_that_no_normalisation_has(refused, save_tiny):
    folder = save_tiny()
    (folder / "preprocessor_config.json").write_text('{"image_mean": [0.1, 0.2, 0.3], "image_std": [1, 1, 1]}')
    assert (
        "normalises images by means [0.1, 0.2, 0.3] and deviations [1, 1, 1], which no data.normalize has"
        in refused(folder)
    )


def test_a_name_on_the_hub_without_its_package(refused, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    message = refused("hf:google/vit-base-patch16-224")
    assert "needs the package huggingface_hub, which is not installed; install it, or download config.json" in message
    assert "https://huggingface.co/google/vit-base-patch16-224/tree/main" in message


def test_a_name_on_the_hub_without_a_network(tmp_path):
    code = "from models.pretrained import hub; hub.download('hf:google/vit-base-patch16-224')"
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60)
    assert "UserError: transfer.source: cannot download 'hf:google/vit-base-patch16-224' (" in done.stderr
    assert "download config.json" in done.stderr


def test_what_is_no_name_on_the_hub(refused):
    assert refused("hf:vit").startswith("transfer.source: 'hf:vit' is not a name on the hub; write hf:ORG/NAME")
