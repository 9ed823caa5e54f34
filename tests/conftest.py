"""The suite runs strict: warnings are errors, no implicit dtype or rank promotion, eight CPU devices."""

import contextlib
import functools
import os
import pathlib
import random
import signal
import socket
import subprocess
import sys
import tomllib

os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=8")
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# One cache for the suite, beside the checkout's other ignored files: prepared digits and compiled programs.
os.environ.setdefault("PLUMBLINE_CACHE", str(pathlib.Path(__file__).parent.parent / ".tests-cache"))

# Shells make their background jobs ignore Ctrl-C, and every process inherits that; commands are tested with it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

import jax
import pytest

from tests.fork_server import ForkServer

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
# Most of the suite's time is compilation: a program is compiled once for all tests and runs of the suite.
jax.config.update("jax_compilation_cache_dir", str(pathlib.Path(os.environ["PLUMBLINE_CACHE"]) / "programs"))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.02)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)

CHECKOUT = pathlib.Path(__file__).parent.parent

# For programs that run once and are compared within tolerances: compiling them well takes longer than they do.
COMPILER_OPTIONS: dict[str, int | bool] = {"xla_backend_optimization_level": 0}
if jax.__version_info__ < (0, 11):  # Newer XLA has no such option.
    COMPILER_OPTIONS["xla_cpu_use_fusion_emitters"] = False
jit_quickly = functools.partial(jax.jit, compiler_options=COMPILER_OPTIONS)

# A training of seconds: a multilayer perceptron on the digits.
QUICK = (
    "--config=configs/digits_mlp.py",
    "--config.train.duration=30 steps",
    "--config.train.log_every=10 steps",
    "--config.train.evaluate_every=10 steps",
    "--config.train.checkpoint_every=10 steps",
    "--config.train.tensorboard=False",
)

# A training of a second: a small multilayer perceptron on three classes of iris flowers.
IRIS = {
    "data.source": "sklearn:iris",
    "data.validation": "20 percent",
    "model.name": "mlp",
    "model.mlp.hidden_sizes": (8, 8),
    "train.duration": "30 steps",
    "train.batch_size": 16,
    "train.log_every": "10 steps",
    "train.evaluate_every": "10 steps",
    "train.checkpoint_every": "10 steps",
    "train.best_metric": "loss",
    "train.tensorboard": False,
    "execution.mode": "loop",
}

# Blake 1794, for tests on texts.
POEM = """Tyger Tyger, burning bright,
In the forests of the night;
What immortal hand or eye,
Could frame thy fearful symmetry?

In what distant deeps or skies,
Burnt the fire of thine eyes?
On what wings dare he aspire?
What the hand, dare seize the fire?
"""


def free_port():
    """A port to listen on, in a moment. Not one of those that the system gives to outgoing connections meanwhile."""
    while True:
        port = random.randrange(20_000, 32_000)
        with contextlib.suppress(OSError), socket.create_server(("", port)):
            return port


class Command:
    """Runs `python -m experiments.NAME` in a process of its own, with one device.

    The processes are forked from one that has imported the libraries; see `fork_server`.
    """

    environment = {**os.environ, "XLA_FLAGS": "", "PYTHONPATH": str(CHECKOUT)}

    def __init__(self):
        self._server = ForkServer(self.environment, CHECKOUT, rooms())

    def arguments(self, name, *words):
        return [sys.executable, "-m", f"experiments.{name}", *map(str, words)]

    def __call__(self, name, *words, code=0, **options):
        finished = self.run(self.arguments(name, *words), **options)
        assert finished.returncode == code, finished.stderr
        return finished

    def start(self, name, *words, **options):
        return self.popen(self.arguments(name, *words), **options)

    def start_interpreter(self, name, *words, **options):
        """As `start`, in an interpreter that has imported nothing and has a hash seed of its own."""
        return subprocess.Popen(self.arguments(name, *words), cwd=CHECKOUT, env=self.environment, **options)

    def start_limited(self, name, *words, file_bytes):
        """As `start_interpreter`, with a limit on the size of a file."""
        limit = f"import os, resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, ({file_bytes}, {file_bytes}))"
        run = [sys.executable, "-c", f"{limit}; os.execv(sys.argv[1], sys.argv[1:])", *self.arguments(name, *words)]
        return subprocess.Popen(run, cwd=CHECKOUT, env=self.environment, stderr=subprocess.PIPE, text=True)

    def run(self, arguments, timeout=None, **options):
        """As `subprocess.run` with the output captured as text, for any command line."""
        with self.popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options) as process:
            try:
                output, errors = process.communicate(timeout=timeout)
            finally:
                process.kill()
        return subprocess.CompletedProcess(arguments, process.returncode, output, errors)

    def popen(self, arguments, *, cwd=CHECKOUT, env=None, **options):
        """As `subprocess.Popen`; what is Python's is forked, where that is as good."""
        env = self.environment if env is None else env
        start = self._server.popen if self._server.can_start(arguments, env) else subprocess.Popen
        return start(arguments, cwd=cwd, env=env, **options)

    def close(self):
        self._server.close()


def rooms():
    """The packages whose modules the commands share: all but the commands themselves, and recipes."""
    settings = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["tool"]["setuptools"]
    names = [pattern.removesuffix("*") for pattern in settings["packages"]["find"]["include"]]
    return [name for name in names if name not in ("configs", "experiments")]


@pytest.fixture(scope="session")
def command():
    command = Command()
    yield command
    command.close()


@pytest.fixture(scope="session")
def quick_run(command, tmp_path_factory):
    """The run directory of a finished quick training."""
    workdir = tmp_path_factory.mktemp("quick") / "run"
    command("train", *QUICK, f"--workdir={workdir}")
    return workdir


@pytest.fixture
def fails(command):
    """Runs a command that must end with one line of error and exit code 2; returns the line."""

    def run(name, *words, **options):
        finished = command(name, *words, code=2, **options)
        lines = [line for line in finished.stderr.splitlines() if line.strip()]
        assert len(lines) == 1, finished.stderr
        assert lines[0].startswith("error: ")
        return lines[0].removeprefix("error: ")

    return run


@pytest.fixture(scope="session")
def words_tokenizer(tmp_path_factory):
    """The folder of a small tokenizer.json in the manner of BERT's: pieces of words, between [CLS] and [SEP]."""
    import tokenizers
    from tokenizers import models, normalizers, pre_tokenizers, processors, trainers

    made = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer()
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trainer = trainers.WordPieceTrainer(vocab_size=120, special_tokens=special, show_progress=False)
    made.train_from_iterator([POEM], trainer)
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    # As files of BERT come: its own settings for cutting and filling up are not to be used.
    made.enable_truncation(7)
    made.enable_padding(length=9)
    folder = tmp_path_factory.mktemp("words")
    made.save(str(folder / "tokenizer.json"))
    return folder
