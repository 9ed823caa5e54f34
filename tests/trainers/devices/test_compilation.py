"""The persistent cache of compiled programs."""

from tests.conftest import QUICK


def test_a_stored_program_that_is_cut_short_is_compiled_again_without_a_word(command, tmp_path):
    cache = tmp_path / "programs"
    words = (*QUICK, f"--config.execution.compilation_cache={cache}")
    command("train", *words, f"--workdir={tmp_path / 'first'}")
    stored = list(cache.glob("*-cache"))
    for program in stored:
        program.write_bytes(program.read_bytes()[:100])
    finished = command("train", *words, f"--workdir={tmp_path / 'second'}")
    assert stored
    assert "cache" not in finished.stderr, finished.stderr
