"""The rooms and their order: imports only ever point down."""

import ast
import compileall
import pathlib
import subprocess
import sys
import tomllib

import pytest

CHECKOUT = pathlib.Path(__file__).parent.parent
MAY_IMPORT = {
    "plumbline": set(),
    "configs": set(),
    "data": {"plumbline"},
    "models": {"plumbline"},
    "trainers": {"plumbline", "configs", "data", "models"},
    "diagnostics": {"plumbline", "data", "models", "trainers"},
    "tuning": {"plumbline", "data", "models", "trainers", "diagnostics"},
    "reporting": {"plumbline", "data", "models", "trainers", "diagnostics", "tuning"},
    "launching": {"plumbline"},
    "experiments": {"plumbline", "data", "models", "trainers", "diagnostics", "tuning", "reporting", "launching"},
}
# The command and the Python API stand above all rooms, and nothing imports them: they are loaded on demand.
PUBLIC = CHECKOUT / "plumbline" / "public"


def imported(file):
    return {name.split(".")[0] for name in modules_imported(file)}


def modules_imported(file):
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: a relative import"
            yield node.module


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_imports_only_point_down(room):
    for file in (CHECKOUT / room).rglob("*.py"):
        others = set(imported(file)) & MAY_IMPORT.keys() - {room}
        assert PUBLIC in file.parents or others <= MAY_IMPORT[room], file


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_nothing_imports_the_public_face(room):
    for file in (CHECKOUT / room).rglob("*.py"):
        names = [name for name in modules_imported(file) if name.startswith("plumbline.public")]
        assert PUBLIC in file.parents or not names, file


def test_importing_plumbline_imports_no_other_package():
    code = "import sys; before = set(sys.modules); import plumbline; print(*set(sys.modules) - before)"
    finished = subprocess.run([sys.executable, "-c", code], cwd=CHECKOUT, capture_output=True, text=True, check=True)
    names = {name.split(".")[0] for name in finished.stdout.split()}
    assert {"plumbline"} <= names <= {"plumbline", *sys.stdlib_module_names}


def test_configs_import_ml_collections_only():
    for file in (CHECKOUT / "configs").rglob("*.py"):
        assert set(imported(file)) <= {"configs", "ml_collections"} | sys.stdlib_module_names, file


def test_every_room_is_installed():
    settings = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    assert settings["packages"]["find"]["include"] == [f"{room}*" for room in MAY_IMPORT]
    for room in MAY_IMPORT:
        for folder in {file.parent for file in (CHECKOUT / room).rglob("*.py")}:
            assert (folder / "__init__.py").exists(), folder


def test_every_file_compiles():
    for room in (*MAY_IMPORT, "tests", "benchmarks"):
        assert compileall.compile_dir(CHECKOUT / room, quiet=1)
