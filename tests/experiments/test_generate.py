"""Texts that a run writes."""

import pytest

from plumbline import UserError
from trainers.run.generation import generate_text
from trainers.run.inference import FinishedRun

ALPHABET = "abcdefghijklmnopqrstuvwxyz"
SMALL = (
    "--config.data.text_length=16",
    "--config.model.gpt.width=32",
    "--config.model.gpt.depth=1",
    "--config.model.gpt.mlp_size=64",
    "--config.schedule.warmup=",
    "--config.optimizer.learning_rate=1e-2",
    "--config.train.duration=60 steps",
    "--config.train.evaluate_every=30 steps",
    "--config.train.tensorboard=False",
    "--config.execution.mode=loop",
)


@pytest.fixture(scope="module")
def language_run(command, tmp_path_factory):
    """The run directory of a GPT that has read the alphabet, again and again."""
    folder = tmp_path_factory.mktemp("language")
    (folder / "alphabet.txt").write_text(100 * ALPHABET)
    config = f"--config=configs/gpt_tinyshakespeare.py:{folder / 'alphabet.txt'}"
    command("train", config, *SMALL, f"--workdir={folder / 'run'}")
    return folder / "run"


def test_a_model_of_the_alphabet_goes_on_with_it(command, language_run):
    words = (f"--workdir={language_run}", "--prompt=pqrs", "--tokens=40", "--temperature=0")
    assert command("generate", *words).stdout == f"pqrs{(2 * ALPHABET)[19:]}{ALPHABET[:7]}\n"


def test_a_seed_writes_the_same_text_again_and_longer_prompts_than_the_model_reads_are_kept(language_run):
    run, prompt = FinishedRun(language_run), 2 * ALPHABET
    hot = {"num_tokens": 20, "temperature": 5.0}
    first, again, other = (generate_text(run, prompt, seed=seed, **hot) for seed in (1, 1, 2))
    assert first == again != other
    assert first.startswith(prompt)
    assert len(first) == len(prompt) + 20
    assert generate_text(run, prompt, top_k=1, **hot) == prompt + ALPHABET[:20]


def test_an_empty_prompt_is_refused(language_run):
    with pytest.raises(UserError, match=r"^--prompt: has no tokens; begin the text with at least one$"):
        generate_text(FinishedRun(language_run), "", num_tokens=3)


def test_a_prompt_of_bytes_that_are_no_text_is_refused(language_run):
    with pytest.raises(UserError, match=r"^--prompt: is not encoded as UTF-8"):
        generate_text(FinishedRun(language_run), "\udcff", num_tokens=1)


def test_a_run_that_is_no_language_model_is_refused(fails, quick_run):
    message = fails("generate", f"--workdir={quick_run}")
    assert message.startswith("--workdir: holds a 'mlp' for classification, ")
    assert "`plumbline generate` needs a run of 'gpt'" in message


def test_the_run_directory_is_asked_for(fails):
    assert fails("generate", "--prompt=x") == "--workdir: missing; see --help"
