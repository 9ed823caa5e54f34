"""The persistent cache of compiled programs."""

import os
import time
import zlib

import pytest

from tests.conftest import QUICK
from trainers.devices import compilation


def test_a_stored_program_that_is_cut_short_is_compiled_and_stored_again_without_a_word(command, tmp_path):
    cache = tmp_path / "programs"
    words = (*QUICK, f"--config.execution.compilation_cache={cache}")
    command("train", *words, f"--workdir={tmp_path / 'first'}")
    stored = {program: program.read_bytes() for program in cache.glob("*-cache")}
    for program, content in stored.items():
        assert zlib.decompress(content)
        program.write_bytes(content[:-1])
    finished = command("train", *words, f"--workdir={tmp_path / 'second'}")
    assert stored
    assert "cache" not in finished.stderr, finished.stderr
    for program in stored:
        assert zlib.decompress(program.read_bytes())


@pytest.mark.parametrize(
    ("change", "is_kept"),
    [
        (lambda content: content, True),
        (lambda content: b"", False),
        (lambda content: content[:1], False),
        (lambda content: content[:-1], False),
        (lambda content: content[: len(content) // 2], False),
        (lambda content: content[:50] + bytes([content[50] ^ 255]) + content[51:], False),
        # As Zstandard begins.
        (lambda content: b"\x28\xb5\x2f\xfd" + content, True),
    ],
)
def test_what_cannot_be_read_is_removed(tmp_path, change, is_kept):
    content = zlib.compress(os.urandom(2**21))
    (tmp_path / "jit_f-12-cache").write_bytes(change(content))
    (tmp_path / "notes").write_bytes(b"")
    compilation.remove_damaged(tmp_path)
    assert (tmp_path / "jit_f-12-cache").exists() == is_kept
    assert (tmp_path / "notes").exists()


def test_each_program_is_read_once(tmp_path):
    old, new = tmp_path / "jit_f-1-cache", tmp_path / "jit_f-2-cache"
    compilation.remove_damaged(tmp_path / "no_such")
    compilation.remove_damaged(tmp_path)
    for program, age in ((old, 3600), (new, 0)):
        program.write_bytes(b"")
        os.utime(program, (time.time() - age,) * 2)
    compilation.remove_damaged(tmp_path)
    assert old.exists()
    assert not new.exists()
