"""Data flows one way through the rooms of the package and inside them, and importing it stays light."""

from __future__ import annotations

import ast
import functools
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "torchdecay"

# Left to right: a module imports from its own room or from a room with a smaller number.
ROOMS = {
    "_version": 0,
    "lazy": 0,
    "errors": 0,
    "text": 0,
    "arguments": 0,
    "numbers": 0,
    "kinds": 0,
    "encoding": 0,
    "records": 0,
    "printing": 0,
    "tables": 0,
    "batches": 0,
    "sharding": 0,
    "findings": 0,
    "plans": 1,
    "optimizers": 2,
    "apply": 3,
    "observe": 4,
    "testing": 5,
    "lab": 5,
    "reports": 6,
    "integrations": 7,
    "cli": 8,
    "__main__": 9,
    "__init__": 10,
}

# What results print is said by reports: the only names from the right that a room calls, and it calls them by name.
CALLED_BY_NAME = {
    ("printing.py", "torchdecay.reports.comparison.sentences:verdict"),
    ("printing.py", "torchdecay.reports.sweep.sentences:verdict"),
    ("printing.py", "torchdecay.reports.tables:direction_in_words"),
    ("printing.py", "torchdecay.reports.tables:verdict"),
}

# Rooms that a newcomer takes in at a glance: so many files and folders at most.
AT_A_GLANCE = {"lab": 12, "observe": 12, "reports": 12}

# What a module may import while it is itself imported. Everything else is imported inside functions.
AT_IMPORT = {"torch", "click", "rich"} | set(sys.stdlib_module_names)
LIGHT_ROOMS = {room for room, place in ROOMS.items() if place <= ROOMS["observe"]} | {"__init__"}


@dataclass(frozen=True)
class Import:
    """One import statement: in which file, function ("" at the top) and line, of which dotted name."""

    file: str
    function: str
    line: int
    name: str

    def __str__(self) -> str:
        inside = f", in {self.function}()" if self.function else ""
        return f"{self.file}:{self.line} imports {self.name}{inside}"


@functools.cache
def parsed(text: str) -> ast.Module:
    """The syntax tree of a file's text: each test reads them all."""
    return ast.parse(text)


def read_imports(path: Path, root: Path) -> Iterator[Import]:
    """Yield every import of a file, relative ones spelled out; type-checking blocks count as well."""
    file = path.relative_to(root).as_posix()
    package = ("torchdecay", *path.relative_to(root).parts[:-1])

    def names(node: ast.Import | ast.ImportFrom) -> list[str]:
        if isinstance(node, ast.Import):
            return [alias.name for alias in node.names]
        base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
        start = ".".join(part for part in (base, node.module or "") if part)
        # `from torchdecay.plans import x` may mean a file or a name: only the longer spelling says which.
        return [f"{start}.{alias.name}" for alias in node.names]

    def walk(node: ast.AST, function: str) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import | ast.ImportFrom):
                yield from (Import(file, function, child.lineno, name) for name in names(child))
            inner = child.name if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef) else function
            yield from walk(child, inner)

    yield from walk(parsed(path.read_text(encoding="utf-8")), "")


def room_of(file: str) -> str:
    return file.split("/")[0].removesuffix(".py")


def wrong_turns(root: Path) -> list[str]:
    """Say which imports go from left to right, or ask the whole package for a name."""
    found = []
    for path in sorted(root.rglob("*.py")):
        file = path.relative_to(root).as_posix()
        here = room_of(file)
        if here not in ROOMS:
            found.append(f"{file} stands in no known room: give {here!r} a place in ROOMS")
            continue
        for item in read_imports(path, root):
            parts = item.name.split(".")
            if parts[0] != "torchdecay" or here == "__init__":
                continue
            there = parts[1] if len(parts) > 1 else ""
            if there not in ROOMS and ROOMS[here] >= ROOMS["integrations"]:
                continue
            if there not in ROOMS:
                found.append(f"{item}: import it from the room that defines it, not from the package")
            elif ROOMS[there] > ROOMS[here]:
                found.append(f"{item}: {there} stands to the right of {here}")
    return found


def called_by_name(root: Path) -> set[tuple[str, str]]:
    """The dotted names, written as text, of what stands to the right of the file that writes them."""
    found = set()
    for path in root.rglob("*.py"):
        file = path.relative_to(root).as_posix()
        for node in ast.walk(parsed(path.read_text(encoding="utf-8"))):
            text = node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""
            name = re.fullmatch(r"torchdecay\.(\w+)[\w.:]*", text)
            if name and ROOMS.get(name[1], 0) > ROOMS[room_of(file)]:
                found.add((file, text))
    return found


def links(root: Path) -> dict[str, set[str]]:
    """Say which entries of one folder import which, whichever of the files in them does; faces do not count."""
    files = {path.relative_to(root).as_posix(): path for path in sorted(root.rglob("*.py"))}
    faces = {file for file, path in files.items() if is_face(path)}
    found: dict[str, set[str]] = {}
    for file in files.keys() - faces:
        for item in read_imports(files[file], root):
            there = _file_of(item.name, files)
            if there is None or there in faces:
                continue
            one, other = file.split("/"), there.split("/")
            same = next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), None)
            if same is not None:
                found.setdefault("/".join(one[: same + 1]), set()).add("/".join(other[: same + 1]))
    return found


def is_face(path: Path) -> bool:
    """An `__init__.py` that defines nothing of its own, but for how names are looked up."""
    body = parsed(path.read_text(encoding="utf-8")).body
    defined = {node.name for node in body if isinstance(node, ast.ClassDef | ast.FunctionDef)}
    return path.name == "__init__.py" and defined <= {"__getattr__", "__dir__"}


def _file_of(name: str, files: Mapping[str, Path]) -> str | None:
    parts = name.split(".")[1:] if name.split(".")[0] == "torchdecay" else []
    for end in range(len(parts), 0, -1):
        stem = "/".join(parts[:end])
        for file in (f"{stem}.py", f"{stem}/__init__.py"):
            if file in files:
                return file
    return None


def circles(links: Mapping[str, set[str]]) -> list[list[str]]:
    """The groups of entries each of which leads to each other one (Tarjan's strongly connected components)."""
    reached: dict[str, int] = {}
    lowest: dict[str, int] = {}
    path: list[str] = []
    found = []

    def visit(entry: str) -> None:
        reached[entry] = lowest[entry] = len(reached)
        path.append(entry)
        for after in sorted(links.get(entry, ())):
            if after not in reached:
                visit(after)
            if after in path:
                lowest[entry] = min(lowest[entry], lowest[after])
        if lowest[entry] == reached[entry]:
            circle = path[path.index(entry) :]
            del path[path.index(entry) :]
            if len(circle) > 1:
                found.append(sorted(circle))

    for entry in sorted(links):
        if entry not in reached:
            visit(entry)
    return found


def heavy_imports(root: Path) -> list[str]:
    """Say which libraries load together with a module instead of waiting for the call that needs them."""
    found = []
    for path in sorted(root.rglob("*.py")):
        here = room_of(path.relative_to(root).as_posix())
        if here == "integrations":
            continue
        allowed = AT_IMPORT - {"click", "rich"} if here in LIGHT_ROOMS else AT_IMPORT
        guarded = _type_checking_lines(path)
        for item in read_imports(path, root):
            top = item.name.split(".")[0]
            if not item.function and top not in allowed | {"torchdecay"} and item.line not in guarded:
                found.append(f"{item}: import it inside the function that needs it")
    return found


def _type_checking_lines(path: Path) -> set[int]:
    lines: set[int] = set()
    for node in ast.walk(parsed(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            for part in node.body:
                lines.update(range(part.lineno, (part.end_lineno or part.lineno) + 1))
    return lines


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """A small package in which everything points the right way."""
    files = {
        "errors.py": "",
        "plans/plan.py": "from torchdecay.errors import PlanError\nimport torch\n",
        "apply/attach.py": "from torchdecay.plans.plan import Plan\n",
        "reports/page.py": "from ..lab import results\n",
        "__init__.py": "from torchdecay.apply.attach import attach\n",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def test_data_flows_one_way() -> None:
    """A module imports from its own room or its left, so that a room can be read without those after it."""
    assert wrong_turns(SOURCE) == []


def test_no_entries_import_one_another_in_a_circle() -> None:
    """In each folder there is an order in which its files and folders can be read, each before who uses it."""
    assert circles(links(SOURCE)) == [], "move what both need below both"


def test_each_folder_names_its_entries_in_the_order_in_which_they_are_read() -> None:
    """The face of a folder says where to begin: each entry imports from those before it only."""
    imports = links(SOURCE)
    assert [fault for face in sorted(SOURCE.rglob("*/__init__.py")) for fault in arrows_up(face, SOURCE, imports)] == []


def arrows_up(face: Path, root: Path, imports: Mapping[str, set[str]]) -> list[str]:
    """What the order that a face names leaves out, and the imports that go against it."""
    folder = face.parent
    entries = {path.stem for path in folder.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    told = re.search(
        r"^Read in this order:([^.]*)\.$", ast.get_docstring(parsed(face.read_text(encoding="utf-8"))) or "", re.M
    )
    order = told[1].replace(",", " ").split() if told else []
    if sorted(order) != sorted(names := entries - {"__init__"}) and len(names) > 1:
        return [f"{face.relative_to(root)} names {order}, and the folder holds {sorted(names)}"]
    inside = folder.relative_to(root).as_posix()
    return [
        f"{inside}: {one} imports {other}, which is read after it"
        for entry, others in imports.items()
        if entry.rpartition("/")[0] == inside and order and Path(entry).stem != "__init__"
        for one, other in [(Path(entry).stem, Path(other).stem) for other in sorted(others)]
        if order.index(one) < order.index(other)
    ]


@pytest.mark.parametrize(
    ("order", "faults"),
    [
        ("b, a, c", []),
        ("b,\n    c, a", []),
        ("a, b, c", ["room: a imports b, which is read after it"]),
        ("b, a", ["room/__init__.py names ['b', 'a'], and the folder holds ['a', 'b', 'c']"]),
    ],
)
def test_a_seeded_arrow_up_is_found(tmp_path: Path, order: str, faults: list[str]) -> None:
    """An import from an entry to one that is read later, and an entry that no order names."""
    room = tmp_path / "room"
    (room / "c").mkdir(parents=True)
    (room / "__init__.py").write_text(f'"""A room.\n\nRead in this order: {order}.\n"""')
    (room / "a.py").write_text("def f():\n    from torchdecay.room.b import x")
    (room / "b.py").write_text("")
    (room / "c" / "__init__.py").write_text("")
    (room / "c" / "d.py").write_text("from torchdecay.room.b import x")
    assert arrows_up(room / "__init__.py", tmp_path, links(tmp_path)) == faults


@pytest.mark.parametrize(
    ("files", "circle"),
    [
        ({"a.py": "from torchdecay.b import x", "b.py": "import torchdecay.a"}, ["a.py", "b.py"]),
        ({"a.py": "def f():\n    from .b import x", "b.py": "from . import a"}, ["a.py", "b.py"]),
        ({"a.py": "if TYPE_CHECKING:\n    from torchdecay import b", "b.py": "from .a import x"}, ["a.py", "b.py"]),
        (
            {"a/a.py": "from torchdecay.b.b import x", "b/b.py": "", "b/c.py": "from ..a import d", "a/d.py": ""},
            ["a", "b"],
        ),
        (
            {"a/__init__.py": "def f(): ...\nimport torchdecay.a.b", "a/b.py": "from torchdecay.a import f"},
            ["a/__init__.py", "a/b.py"],
        ),
        ({"a/__init__.py": "from torchdecay.a.b import x", "a/b.py": "from torchdecay.a import x"}, []),
        ({"a.py": "from torchdecay.b import x", "b.py": "from torchdecay.c import x", "c.py": ""}, []),
    ],
)
def test_a_seeded_circle_is_found(tmp_path: Path, files: dict[str, str], circle: list[str]) -> None:
    """Between files and between folders, spelled in any way, late and for the type checker only."""
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert circles(links(tmp_path)) == ([circle] if circle else [])


@pytest.mark.parametrize(("room", "most"), AT_A_GLANCE.items())
def test_a_room_is_taken_in_at_a_glance(room: str, most: int) -> None:
    """Who opens the folder sees at most a dozen doors."""
    assert len(entries(SOURCE / room)) <= most


def test_no_room_has_the_name_of_a_public_one() -> None:
    """Importing a folder would put it in the place of the function of that name."""
    import torchdecay
    import torchdecay.lab

    assert entries(SOURCE) & set(torchdecay.__all__) == set()
    assert entries(SOURCE / "lab") & set(torchdecay.lab.__all__) == set()


def entries(folder: Path) -> set[str]:
    """The modules and packages of a folder."""
    return {path.stem for path in folder.iterdir() if not path.name.startswith(("_", "."))}


def test_modules_load_nothing_but_torch_and_the_terminal() -> None:
    """An optional library that is absent is missed by the call that needs it, not by the import."""
    assert heavy_imports(SOURCE) == []


def test_only_printing_calls_to_the_right_and_by_name() -> None:
    """A name as text bypasses the imports that are read above: each is listed, and the list holds no other."""
    assert called_by_name(SOURCE) == CALLED_BY_NAME


def test_a_seeded_call_by_name_is_caught(house: Path) -> None:
    """Wherever the text stands in the file; one to the left or of no room is none."""
    assert called_by_name(house) == set()
    (house / "plans" / "plan.py").write_text('X = {"a": "torchdecay.reports.page:draw", "b": "torchdecay.errors:E"}')
    (house / "reports" / "page.py").write_text('KIND = "torchdecay.sweep"')
    assert called_by_name(house) == {("plans/plan.py", "torchdecay.reports.page:draw")}


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("plans/plan.py", "from torchdecay.apply.attach import attach"),
        ("plans/plan.py", "from torchdecay.apply import attach"),
        ("plans/plan.py", "from torchdecay import apply"),
        ("plans/plan.py", "import torchdecay.apply.attach"),
        ("plans/plan.py", "from ..apply import attach"),
        ("plans/plan.py", "from .. import apply"),
        ("plans/plan.py", "if TYPE_CHECKING:\n    from torchdecay.apply.attach import Handle"),
        ("plans/plan.py", "class Plan:\n    def draw(self):\n        from torchdecay.reports import page"),
        ("apply/attach.py", "from torchdecay import attach"),
        ("apply/attach.py", "import torchdecay"),
        ("errors.py", "from torchdecay.plans.plan import Plan"),
        ("kitchen/sink.py", "import torch"),
    ],
)
def test_a_seeded_wrong_turn_is_caught(house: Path, file: str, line: str) -> None:
    """However an import is spelled, the reader sees where it leads."""
    (house / file).parent.mkdir(exist_ok=True)
    (house / file).write_text(line)
    assert [turn.split(":")[0].split(" ")[0] for turn in wrong_turns(house)] == [file]


@pytest.mark.parametrize(
    ("file", "line", "caught"),
    [
        ("plans/plan.py", "import numpy as np", True),
        ("plans/plan.py", "try:\n    import numpy\nexcept ImportError:\n    numpy = None", True),
        ("apply/attach.py", "import rich", True),
        ("reports/page.py", "from matplotlib import pyplot", True),
        ("plans/plan.py", "def table():\n    import rich", False),
        ("plans/plan.py", "if TYPE_CHECKING:\n    import numpy as np", False),
        ("cli.py", "import click", False),
    ],
)
def test_a_seeded_heavy_import_is_caught(house: Path, file: str, line: str, caught: bool) -> None:
    """A library at the top of a file is found, one inside a function is not."""
    (house / file).write_text(line)
    assert bool(heavy_imports(house)) is caught


def test_the_names_of_torchdecay_load_torch_and_nothing_heavier() -> None:
    """A training script that needs one function does not pay for plots, tables and the command line."""
    code = (
        "import sys, torch; before = set(sys.modules); from torchdecay import *;"
        "print(*sorted({name.split('.')[0] for name in set(sys.modules) - before}))"
    )
    path = os.pathsep.join([str(SOURCE.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    env = os.environ | {"PYTHONPATH": path}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=env)
    assert done.returncode == 0, done.stderr
    loaded = set(done.stdout.split())
    assert "torchdecay" in loaded
    assert loaded - {"torchdecay", "torch"} - set(sys.stdlib_module_names) == set()
