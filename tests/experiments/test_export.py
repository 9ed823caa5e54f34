"""Runs that began with weights from elsewhere, written in their layout."""

import json
import pathlib
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file

from configs import defaults
from models import build, pretrained
from trainers.run.inference import FinishedRun
from trainers.run.loop import train
from trainers.settings import override
from trainers.step.train_step import make_outputs

FIXTURES = pathlib.Path(__file__).parent.parent / "references" / "fixtures"
LORA = {
    "transfer.lora.patterns": ("attention/(query|value)$", "mlp/out$"),
    "transfer.freeze": ("^(?!head/)(?!.*/lora_)",),
    "optimizer.learning_rate": 0.02,
}


@pytest.fixture(scope="module")
def adapted(tmp_path_factory):
    """A run with adapters on a vision transformer of transformers, on digits 5 to 9 of 20 pixels."""
    workdir = tmp_path_factory.mktemp("adapted") / "run"
    source = tmp_path_factory.mktemp("source") / "vit"
    shutil.copytree(FIXTURES / "hf_vit", source)
    fields = {
        "data.classes": ("5", "6", "7"),
        "data.image_size": 20,
        "model.name": "pretrained",
        "transfer.source": str(source),
        "train.duration": "20 steps",
        "train.tensorboard": False,
    }
    train(override(defaults.get_config(), fields | LORA), workdir, devices=jax.devices()[:1])
    return workdir


@pytest.mark.slow
def test_a_run_with_adapters_answers_the_same_as_what_was_exported_of_it(adapted, command, tmp_path):
    printed = command("export", f"--workdir={adapted}", f"--output={tmp_path / 'exported'}").stdout
    assert "as Hugging Face ViT" in printed
    assert "normalisation of images (pixels from 0 to 1): mean 0." in printed
    run = FinishedRun(adapted)
    assert np.abs(run.state.params["blocks"]["attention"]["query"]["lora_b"]).max() > 1e-3
    fields = pretrained.architecture(str(tmp_path / "exported"))
    assert fields["data.image_size"] == 20
    config = override(defaults.get_config(), {n: v for n, v in fields.items() if n.startswith("model.")})
    model = build(config.model, input_shape=(20, 20, 3), categories=(), num_outputs=3, key=jax.random.key(0))
    start, report = pretrained.load(str(tmp_path / "exported"), model)
    assert not report.fresh
    inputs = np.random.default_rng(0).integers(0, 256, (4, 20, 20, 3), dtype=np.uint8)
    mean, std = (np.asarray(run.state.preprocessing[name]) for name in ("mean", "std"))
    images = (inputs / 255 - mean) / std
    logits = jax.jit(lambda params, images: nnx.merge(nnx.split(model)[0], params)(images))(
        start["params"], jnp.asarray(images, jnp.float32)
    )
    expected = jax.jit(make_outputs(run.program))(run.state, inputs)
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)
    config = json.loads((tmp_path / "exported" / "config.json").read_text())
    assert config["id2label"] == {"0": "5", "1": "6", "2": "7"}


def test_the_report_calls_adapters_what_they_are(adapted):
    report = (adapted / "transfer.txt").read_text()
    assert "new: an adapter" in report
    assert "transfer.allow" not in report


@pytest.mark.slow
def test_what_was_exported_is_a_source_for_others(adapted, command, tmp_path):
    command("export", f"--workdir={adapted}", f"--output={tmp_path / 'exported'}", f"--like={FIXTURES / 'hf_vit'}")
    fields = {
        "data.classes": ("5", "6", "7"),
        "data.image_size": 20,
        "model.name": "pretrained",
        "transfer.source": str(tmp_path / "exported"),
        "optimizer.learning_rate": 1e-30,
        "train.duration": "1 steps",
        "train.tensorboard": False,
        "schedule.warmup": "",
    }
    summary = train(override(defaults.get_config(), fields), tmp_path / "run", devices=jax.devices()[:1])
    assert summary["metrics"]["test"]["loss"] == pytest.approx(FinishedRun(adapted).evaluate("test")["loss"], rel=1e-4)


def test_what_cannot_be_exported_is_told(adapted, quick_run, fails, tmp_path):
    output = f"--output={tmp_path / 'exported'}"
    (tmp_path / "there").mkdir()
    for words, message in (
        ((f"--workdir={quick_run}", output), "--like: missing, and the run has no transfer.source; name weights of"),
        ((f"--workdir={adapted}", output, f"--like={quick_run}"), f"--like: '{quick_run}' is a run of Plumbline"),
        ((f"--workdir={adapted}", output, f"--like={tmp_path / 'no'}"), "--like: no such file or directory"),
        ((f"--workdir={adapted}", output, f"--like={FIXTURES / 'timm_resnet'}"), "--like: "),
        ((f"--workdir={adapted}", f"--output={tmp_path / 'there'}"), "--output: '"),
        ((f"--workdir={tmp_path / 'no'}", output), "--workdir: no config.json in"),
    ):
        assert fails("export", *words).startswith(message)
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


@pytest.mark.slow
def test_a_regression_that_was_exported_answers_in_the_units_of_its_label(command, tmp_path):
    fields = {
        "data.source": f"csv:{tmp_path / 'texts.csv'}",
        "data.text": "text",
        "data.target": "stars",
        "data.tokenizer": "characters",
        "data.text_length": 8,
        "model.name": "pretrained",
        "transfer.source": str(FIXTURES / "hf_bert"),
        "train.duration": "2 steps",
        "train.batch_size": 8,
        "train.tensorboard": False,
        "schedule.warmup": "",
    }
    rows = "".join(f"text {number % 7},{100 + number / 3}\n" for number in range(40))
    (tmp_path / "texts.csv").write_text(f"text,stars\n{rows}")
    train(override(defaults.get_config(), fields), tmp_path / "run", devices=jax.devices()[:1])
    command("export", f"--workdir={tmp_path / 'run'}", f"--output={tmp_path / 'exported'}")
    written, run = load_file(tmp_path / "exported" / "model.safetensors"), FinishedRun(tmp_path / "run")
    mean, std = (np.asarray(run.state.preprocessing[name]) for name in ("label_mean", "label_std"))
    head = run.state.params["head"]
    np.testing.assert_allclose(written["classifier.weight"].T, head["kernel"] * std, rtol=1e-6)
    np.testing.assert_allclose(written["classifier.bias"], head["bias"] * std + mean, rtol=1e-6)
    assert (tmp_path / "exported" / "tokenizer.json").read_text() == run.features.tokenizer
