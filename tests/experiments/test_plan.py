"""The command `plumbline plan`."""

import importlib.util
import json
import re

import pytest

MLP, VIT = "--config=configs/digits_mlp.py", "--config=configs/digits_vit.py"


@pytest.fixture
def plan(command, tmp_path):
    """Runs the command; returns its standard output and its figures."""

    def run(*words, **options):
        output = tmp_path / "plan.json"
        finished = command("plan", *words, f"--output={output}", **options)
        return finished.stdout, json.loads(output.read_text())

    return run


@pytest.mark.slow
def test_a_plan_for_this_machine_adds_up(plan):
    text, figures = plan(MLP, "--table")
    assert "hidden/0/kernel" in text
    assert "model FLOPs: 2mnk" in text
    assert "calibrated by timing one step of 16 examples here" in text
    assert figures["fits"]
    assert figures["parameters"] == 64 * 128 + 128 + 128 * 128 + 128 + 128 * 10 + 10
    # Forward and backward of three layers, less the gradient of the pixels, which nobody needs.
    layers = [64 * 128, 128 * 128, 128 * 10]
    assert figures["flops"]["model"] == 2 * 64 * (3 * sum(layers) - layers[0])
    assert figures["flops"]["compiled"] == figures["flops"]["model"]
    assert figures["hours"] == pytest.approx(figures["steps"] * figures["step_seconds"] / 3600)
    assert figures["bill"]["on_demand"] == 0.0


@pytest.mark.slow
def test_a_plan_for_gpus_says_what_it_stands_on_and_counts_collectives(plan):
    text, figures = plan(MLP, "--device=h100:8", "--config.model.dtype=bfloat16")
    assert "compiled for 8 CPU devices in place of GPUs" in text
    assert figures["devices"] == 8
    # Every gradient is summed over all devices.
    assert figures["collectives"]["all-reduce"]["bytes"] >= 4 * figures["parameters"]
    assert figures["memory"]["available"] < 80 * 2**30
    assert 0 < figures["mfu"] < 1
    low, high = figures["step_seconds_range"]
    assert figures["roofline"]["compute"] <= low < high == figures["step_seconds"]
    assert re.search(r"step +│ +[0-9.]+ [um]s to [0-9.]+ [um]s", text)
    assert figures["bill"]["on_demand"] == pytest.approx(6.88 * 8 * figures["hours"])


@pytest.mark.slow
def test_what_takes_less_memory_is_tried_on_request(plan):
    _, figures = plan(VIT, "--device=h100:2", "--remedies", "--compilations=1")
    (tried,) = figures["remedies"]
    assert tried["changes"] == {"model.remat": "dots"}
    assert tried["estimate"]["memory"]["temporary"] < figures["memory"]["temporary"]


@pytest.mark.slow
def test_a_search_ranks_meshes_and_batches(plan):
    text, figures = plan(MLP, "--device=h100:8", "--search", "--compilations=5")
    hours = [tried["estimate"]["hours"] for tried in figures["search"] if tried["estimate"]]
    assert hours == sorted(hours)
    assert sum(tried["estimate"] is not None for tried in figures["search"]) == 5
    assert {"mesh.data": 1, "mesh.fsdp": 8, "mesh.tensor": 1, "train.batch_size": 64} in [
        tried["changes"] for tried in figures["search"]
    ]
    assert f"best: --config.mesh.data={figures['search'][0]['changes']['mesh.data']}" in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([MLP, "--device=v5e:3x5"], "--device: unknown topology 'v5e:3x5'; known: v5e:1x1"),
        ([MLP, "--device=h1000:8"], "--device: unknown device 'h1000'; known: "),
        ([MLP, "--device=h100:8", "--config.mesh.data=3"], "does not multiply to the 8 devices"),
        ([MLP, "--device=h100:8", "--config.train.batch_size=20"], "train.batch_size: 20 is not divisible over 8"),
        ([MLP, "--prices=/no/such.toml"], "--prices: cannot read '/no/such.toml'"),
        ([MLP, "--examples=100"], "data.num_classes: is 0 beside data.num_examples"),
        ([MLP, "--examples=-1"], "--examples: -1 given; it must be at least 0"),
        (["--config=configs/cifar10_resnet18.py", "--config.data.image_size=0"], "data.image_size: is 0"),
        ([], "--config: missing"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(fails, words, message):
    assert message in fails("plan", *words)


def test_a_price_table_without_the_device_is_told(fails, tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text("power_usage_effectiveness = 1.1\n[v5e]\non_demand = 1.2\nspot = 0.6\nwatts = 140\n")
    line = fails("plan", MLP, "--device=h100:8", f"--prices={path}")
    assert f"'{path}' has no price of h100; add a section [h100]" in line


@pytest.mark.skipif(importlib.util.find_spec("libtpu") is not None, reason="libtpu is installed")
def test_without_libtpu_a_tpu_is_refused_with_the_way_to_install_it(fails):
    line = fails("plan", MLP, "--device=v5e:2x4")
    assert "needs libtpu, which is not installed" in line
    assert "pip install -c constraints.txt -e '.[plan-tpu]'" in line


needs_libtpu = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed; `make test-plan` has it"
)

PODS = ("v5e:2x4", "v5e:8x8", "v5e:16x16", "v5p:2x2x2", "v5p:4x4x4", "v5p:4x8x8", "v6e:2x4", "v6e:8x8", "v6e:16x16")


@pytest.mark.slow
@needs_libtpu
@pytest.mark.parametrize("device", PODS)
@pytest.mark.parametrize("name", ["imagenet_resnet50", "imagenet_vit_s16"])
def test_imagenet_configs_compile_for_tpu_pods(plan, name, device):
    _, figures = plan(f"--config=configs/{name}.py", f"--device={device}")
    assert figures["fits"]
    memory, flops = figures["memory"], figures["flops"]
    # The compiler allots what the shards add up to, and the padding of its tiles.
    assert 0 <= memory["padding"] < 0.05 * memory["arguments"]
    # With few images on a device the compiler folds some of a convolution's space into its batch, and does more.
    assert 0.999 < flops["compiled"] / flops["model"] < 1.25
    assert figures["collectives"]["all-reduce"]["count"] > 0
    assert 0 < figures["mfu"] < 1


@pytest.mark.slow
@needs_libtpu
def test_split_parameters_take_their_share_and_no_arithmetic_is_done_twice(plan):
    _, figures = plan(
        "--config=configs/imagenet_vit_s16.py", "--device=v5e:2x4", "--config.mesh.data=1", "--config.mesh.fsdp=8"
    )
    assert figures["memory"]["parameters"] < 1.02 * 4 * figures["parameters"] / 8
    # Products that wait for each other's parts turn in loops that the compiler has unrolled.
    assert figures["flops"]["compiled"] == pytest.approx(figures["flops"]["model"], rel=0.03)
    assert figures["collectives"]["collective-permute"]["count"] > 100


@pytest.mark.slow
@needs_libtpu
def test_a_step_that_does_not_fit_is_told_with_what_makes_it_fit(plan):
    text, figures = plan("--config=configs/imagenet_vit_s16.py", "--device=v5e:2x2", "--compilations=2")
    assert not figures["fits"]
    assert "Ran out of memory" in figures["overflow"]
    assert figures["memory"]["temporary"] > 16 * 2**30
    assert figures["step_seconds"] is None
    assert figures["remedies"][-1]["estimate"]["fits"]
    assert "--config.model.remat=dots" in text
