"""The pages of documentation: links and anchors lead somewhere, and the map and the sidebar name every page."""

import pathlib
import re

import pytest

from configs import defaults
from plumbline.public.commands import COMMANDS

CHECKOUT = pathlib.Path(__file__).parent.parent
PAGES = [*CHECKOUT.glob("*.md"), *CHECKOUT.glob("docs/*.md")]
INDEX = (CHECKOUT / "docs/index.md").read_text(encoding="utf-8")
PACKAGES = (
    *(
        "benchmarks",
        "calibration",
        "data",
        "diagnostics",
        "experiments",
        "launching",
        "models",
        "plumbline",
        "reporting",
    ),
    *("tests", "trainers", "tuning"),
)
FIELDS = defaults.get_config().to_dict()
SECTIONS = tuple(name for name, value in FIELDS.items() if isinstance(value, dict))
# Files that the examples have the reader write.
READERS_OWN = ("two_towers.py", "class_names.py", "my_digits.py", "model.two_towers")
FILE_NAME = re.compile(r"\.(json|txt|npz|md|safetensors)(\.|$)")
LINK = re.compile(r"\]\(([^)\s]+)\)")


def prose(page: pathlib.Path) -> str:
    """The text of a page without its code, in which a bracket is no link and a "#" no heading."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"^    .*$", "", text, flags=re.MULTILINE)


def anchors(page: pathlib.Path) -> set[str]:
    """The anchors of a page's headings, by the rule of GitHub and of myst_parser."""
    titles = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def broken_links(page: pathlib.Path) -> list[str]:
    """The links of a page that lead to no file, or to no heading of it."""
    broken = []
    for link in LINK.findall(prose(page)):
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    return broken


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_every_link_leads_to_a_file_and_a_heading(page):
    assert broken_links(page) == []


def test_a_dead_link_and_a_dead_anchor_are_found(tmp_path):
    (tmp_path / "there.md").write_text("# A `code` title: with, marks\n```sh\n# no heading\n```\n")
    page = tmp_path / "page.md"
    page.write_text(
        "[a](there.md#a-code-title-with-marks) [b](gone.md) [c](there.md#no-heading) [d](https://x.org/#y)\n"
    )
    assert broken_links(page) == ["gone.md", "there.md#no-heading"]


def test_pages_of_the_site_link_to_pages_of_the_site_only():
    """A link out of docs/ works on GitHub and is dead on the site."""
    for page in CHECKOUT.glob("docs/*.md"):
        assert [link for link in LINK.findall(prose(page)) if link.startswith("../")] == [], page.name


@pytest.mark.parametrize("page", sorted(CHECKOUT.glob("docs/*.md")), ids=lambda path: path.stem)
def test_the_map_and_the_sidebar_name_every_page(page):
    if page.stem != "index":
        assert f"]({page.name}" in INDEX
        assert re.search(rf"^{page.stem}$", INDEX, re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_pages_name_commands_and_configs_that_exist(page):
    text = page.read_text(encoding="utf-8")
    named = set(re.findall(r"(?<![\w./-])plumbline ([a-z_]+) --?[a-z]", text))
    assert named <= set(COMMANDS)
    # `x.py` and `my_*.py` stand for a file that the reader writes.
    configs = set(re.findall(r"--config=(configs/(?!x\.py|my_)\w+\.py)", text))
    assert [config for config in configs if not (CHECKOUT / config).exists()] == []


# The changelog also names what was removed.
@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "CHANGELOG.md"], ids=lambda path: path.name)
def test_files_functions_and_config_fields_named_in_pages_exist(page):
    text = page.read_text(encoding="utf-8")
    paths = re.findall(r"`((?:\w+/)+\w+\.(?:py|toml|txt))`", text)
    files = [path for path in paths if path.split("/")[0] in PACKAGES and pathlib.Path(path).name not in READERS_OWN]
    assert [path for path in files if not (CHECKOUT / path).exists()] == []
    starts = "|".join((*PACKAGES, *SECTIONS))
    names = re.findall(rf"`((?:{starts})(?:\.[a-z]\w*)+)(?:[(=][^`]*)?`", text)
    names = [name for name in names if not FILE_NAME.search(name) and name not in READERS_OWN]
    assert [name for name in names if not (is_field(name) or named_in_code(name))] == []


def is_field(name: str) -> bool:
    """Whether a dotted name is a config field or a section."""
    fields = FIELDS
    for part in name.split("."):
        if not isinstance(fields, dict) or part not in fields:
            return False
        fields = fields[part]
    return True


def named_in_code(name: str) -> bool:
    """Whether a dotted name leads to a module, or to one whose text has the rest of it."""
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        base = CHECKOUT.joinpath(*parts[:end])
        module = base / "__init__.py" if base.is_dir() else base.with_suffix(".py")
        if module.exists():
            return end == len(parts) or re.search(rf"\b{parts[end]}\b", module.read_text(encoding="utf-8")) is not None
    return False


def test_measured_figures_of_the_readme_stand_in_the_headers_of_their_configs():
    readme = (CHECKOUT / "README.md").read_text(encoding="utf-8")
    rows = re.findall(
        r"^\| `(\w+\.py)` \| \S+ \| ([\d.]+) \| ([\d.]+) to ([\d.]+) \| ([^|]+) \|$", readme, re.MULTILINE
    )
    assert len(rows) == 7
    for name, *figures, time in rows:
        header = (CHECKOUT / "configs" / name).read_text(encoding="utf-8").split('"""')[1]
        assert set(figures) <= set(re.findall(r"\d+\.\d+", header)), name
        assert set(re.findall(r"\d+", time)) <= set(re.findall(r"\d+", header)), name
