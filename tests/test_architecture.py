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
    "experiments": {
        *("plumbline", "configs", "data", "models", "trainers", "diagnostics", "tuning", "reporting", "launching"),
    },
}
# The parts of `trainers`; each imports only those before it.
TRAINERS = ("durations", "settings", "step", "devices", "building", "processes", "run", "populations")
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


def test_parts_of_trainers_import_only_those_before_them():
    room = CHECKOUT / "trainers"
    parts = {path.stem for path in room.iterdir() if path.name[0] != "_" and path.suffix in ("", ".py")}
    assert parts == set(TRAINERS)
    for file in room.rglob("*.py"):
        name = file.relative_to(room).with_suffix("").parts[0]
        others = {other.split(".")[1] for other in project_modules_imported(file) if other.startswith("trainers.")}
        before = TRAINERS[: TRAINERS.index(name) + 1] if name in TRAINERS else ()
        assert others <= set(before), file


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_modules_of_a_room_import_each_other_in_no_circle(room):
    imports = {
        module_name(file): set(project_modules_imported(file, inside_functions=False))
        for file in (CHECKOUT / room).rglob("*.py")
    }
    # Take away modules that import none of the others; what is left are circles and what leads to them.
    while free := {name for name, others in imports.items() if not (others - {name}) & imports.keys()}:
        imports = {name: others for name, others in imports.items() if name not in free}
    assert not imports


def module_name(file):
    parts = file.relative_to(CHECKOUT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def project_modules_imported(file, *, inside_functions=True):
    """Full names of the project's modules that a file imports, such as trainers.run.rules."""
    nodes = [ast.parse(file.read_text(encoding="utf-8"))]
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            for name in (f"{node.module}.{alias.name}" for alias in node.names):
                path = CHECKOUT.joinpath(*name.split("."))
                yield name if path.is_dir() or path.with_suffix(".py").exists() else node.module
        elif inside_functions or not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            nodes.extend(ast.iter_child_nodes(node))


def test_importing_plumbline_imports_no_other_package():
    code = "import sys; before = set(sys.modules); import plumbline; print(*set(sys.modules) - before)"
    finished = subprocess.run([sys.executable, "-c", code], cwd=CHECKOUT, capture_output=True, text=True, check=True)
    names = {name.split(".")[0] for name in finished.stdout.split()}
    assert {"plumbline"} <= names <= {"plumbline", *sys.stdlib_module_names}


def test_configs_import_ml_collections_only():
    for file in (CHECKOUT / "configs").rglob("*.py"):
        assert set(imported(file)) <= {"configs", "ml_collections"} | sys.stdlib_module_names, file


def test_commands_depend_on_no_recipe():
    for file in (CHECKOUT / "experiments").rglob("*.py"):
        names = {name for name in modules_imported(file) if name.split(".")[0] == "configs"}
        assert names <= {"configs.defaults"}, file


def test_every_room_is_installed():
    settings = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    assert settings["packages"]["find"]["include"] == [f"{room}*" for room in MAY_IMPORT]
    for room in MAY_IMPORT:
        for folder in {file.parent for file in (CHECKOUT / room).rglob("*.py")}:
            assert (folder / "__init__.py").exists(), folder


def test_every_file_compiles():
    for room in (*MAY_IMPORT, "tests", "benchmarks", "calibration"):
        assert compileall.compile_dir(CHECKOUT / room, quiet=1)
