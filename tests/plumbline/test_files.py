import subprocess
import sys

from plumbline.files import remove_unfinished, write_text


def test_what_a_kill_left_of_a_file_is_removed_and_nothing_else(tmp_path):
    path = tmp_path / "population.npz"
    write_text(path, "whole")
    script = f"""
import os, signal
from plumbline.files import replace_atomically
with replace_atomically({str(path)!r}) as temporary:
    temporary.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == -9
    (tmp_path / ".population.json.abcdefgh").mkdir()
    assert len(list(tmp_path.iterdir())) == 3
    remove_unfinished(path)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [".population.json.abcdefgh", "population.npz"]
    assert path.read_text() == "whole"
