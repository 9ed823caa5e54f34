"""docs/python.md, word for word: its code runs in order, and prints what the page shows, but for the figures."""

import contextlib
import io
import pathlib
import re

CHECKOUT = pathlib.Path(__file__).parent.parent.parent
PAGE = (CHECKOUT / "docs" / "python.md").read_text(encoding="utf-8")
# A block of code and, where it prints something, what it prints.
BLOCKS = re.findall(r"```python\n(.*?)```\n(?:\n```text\n(.*?)```)?", PAGE, re.DOTALL)


def words(text):
    """The text with its decimal fractions hidden, and without regard to spaces."""
    return re.sub(r"\d+\.\d+", "#", text).split()


def test_the_code_of_the_page_runs_and_prints_what_it_shows(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert len(BLOCKS) == 11
    names = {"__name__": "tutorial"}
    for number, (code, shown) in enumerate(BLOCKS, 1):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code, f"block {number} of docs/python.md", "exec"), names)
        assert words(printed.getvalue()) == words(shown), f"block {number}: {printed.getvalue()}"
    # Where figures are hidden above, they are right all the same.
    assert names["run"].evaluate("test")["accuracy"] > 0.85
    assert names["members"]["accuracy"].min() > 0.8
