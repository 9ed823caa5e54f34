import ast
import pathlib

import data
from data.random_streams import KeyPurpose, Stream, generator

CHECKOUT = pathlib.Path(data.__file__).parent.parent
FIRST = 2**63
# The rows and labels that seeds have drawn until now.
NUMBERS = {
    "TEST_SPLIT": FIRST + 1,
    "VALIDATION_SPLIT": FIRST + 2,
    "NESTED_SUBSETS": FIRST + 3,
    "ROWS_OF_CLASSES": FIRST + 4,
    "RANDOM_LABELS": FIRST + 4,
    "COLUMN_TRIALS": FIRST + 21,
    "ANOMALY_SAMPLE": FIRST + 22,
}


def test_streams_keep_their_numbers():
    assert {name: int(stream) for name, stream in Stream.__members__.items()} == NUMBERS
    assert {name: int(purpose) for name, purpose in KeyPurpose.__members__.items()} == {
        "AUGMENT": 0, "MIX": 1, "MODEL": 2, "CORRUPT": 3, "ADAPTERS": 0x4C6F5241,
    }  # fmt: skip


def test_streams_are_distinct_from_each_other_and_from_the_epochs():
    # Random labels share a number with the rows of classes, as `Stream` explains; no other two do.
    aliases = {name for name, stream in Stream.__members__.items() if stream.name != name}
    assert aliases == {"RANDOM_LABELS"}
    assert min(Stream) > FIRST, "an epoch has this number"
    assert len(set(KeyPurpose)) == len(KeyPurpose.__members__)


def test_different_streams_of_one_seed_differ():
    drawn = {tuple(generator(0, stream).integers(2**32, size=4)) for stream in (*Stream, 0, 1)}
    assert len(drawn) == len(Stream) + 2


def test_generators_are_keyed_by_named_streams_only():
    for room in ("data", "trainers", "diagnostics", "tuning", "experiments"):
        for file in (CHECKOUT / room).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "generator":
                    assert not isinstance(node.args[1], ast.Constant | ast.BinOp), f"{file}:{node.lineno}"
