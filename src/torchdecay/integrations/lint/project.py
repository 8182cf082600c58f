"""What only the whole project tells: options that nobody reads (WD510), numbers of YAML that are text (WD509)."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from torchdecay.findings.finding import Finding, Place, finding_of
from torchdecay.findings.rule import Rule, Severity
from torchdecay.integrations.lint.code import Code, Function
from torchdecay.integrations.lint.constants import option
from torchdecay.integrations.lint.files import find_named
from torchdecay.integrations.lint.rule import CHECKS, PROJECT, Hit
from torchdecay.integrations.lint.rules.literals import DECAY

UNREAD = Rule(
    "WD510",
    "warning",
    "an option for weight decay that nobody reads",
    "Whoever sets it changes nothing: the value never reaches an optimizer.",
    "Hand it to the optimizer, or take it out.",
    'parser.add_argument("--weight-decay", type=float, default=0.1)\nargs = parser.parse_args()\n'
    "optimizer = torch.optim.SGD(weights, lr=args.lr)",
    'parser.add_argument("--weight-decay", type=float, default=0.1)\nargs = parser.parse_args()\n'
    "optimizer = torch.optim.SGD(weights, lr=args.lr, weight_decay=args.weight_decay)",
)
PROJECT.append(UNREAD)

_NAMED: tuple[type[Function | ast.ClassDef], ...] = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_MARKS = (".git", "pyproject.toml", "setup.py", "setup.cfg")
_BY_NAME = {"importlib", "pkgutil", "runpy", "import_module"}
_HARMLESS = {"print", "pprint", "str", "repr", "info", "debug", "len", "isinstance", "type", "format", "pformat"}
# Whoever does this may read every option.
_OPAQUE = re.compile(
    r"\bvars\(|asdict|__dict__|parse_known_args|HfArgumentParser|OmegaConf|\*\*args|\*\*self|fields\(|locals\(\)|argcomplete"
)
_IMPORT = re.compile(r"^[ \t]*(?:from|import)\s[^\n(]*(?:\([^)]*\))?", re.MULTILINE)
_WORD = re.compile(r"\b(?:\w*weight_?decay|wd)\b")
_YAML = re.compile(r"^\s*(?:- +)?([\"']?)(\w*weight_?decay|wd)\1\s*:\s*([-+]?\d[\d_]*\.?\d*[eE][-+]?\d+)\s*(?:#.*)?$")
_YAML_FLOAT = re.compile(r"[-+]?\d[\d_]*\.[\d_]*[eE][-+]\d+")


@dataclass(frozen=True)
class Facts:
    """What one file says about the project.

    Attributes:
        declared: options for weight decay as findings, in case that nobody reads them, with their names.
        read: the names of such options that it may read.
        handed: the functions to which it hands all options.
        defined: the functions and classes that it defines.
        is_opaque: whether it does what may read any option.
        yaml: the YAML files that it names, where it reads YAML.
        converts: whether it makes numbers of such options.
        imports: the last names of the modules that it may import.
    """

    declared: tuple[tuple[str, Finding], ...] = ()
    read: frozenset[str] = frozenset()
    handed: frozenset[str] = frozenset()
    defined: frozenset[str] = frozenset()
    is_opaque: bool = False
    yaml: frozenset[str] = frozenset()
    converts: bool = False
    imports: frozenset[str] = frozenset()


def words_of(text: str) -> Facts:
    """What a file says that no rule looks into."""
    # Of import statements every word: the names of modules are among them.
    imports = frozenset(word for line in _IMPORT.findall(text) for word in re.findall(r"\w+", line))
    return Facts(read=frozenset(_WORD.findall(text)), is_opaque=bool(_OPAQUE.search(text)), imports=imports)


def facts_of(code: Code) -> tuple[Facts, list[Hit]]:
    """What a file says about the project, and the options that it declares."""
    declared = [*_declared(code)]
    nodes = {inner for hit in declared for inner in ast.walk(hit.node)}
    # What argparse parsed, by the names that hold it.
    parsed = (one.targets for one in code.all(ast.Assign) if ast.unparse(one.value).endswith("parse_args()"))
    holders = {one.id for targets in parsed for one in targets if isinstance(one, ast.Name)}
    handed = {
        ast.unparse(call.func).rpartition(".")[2]
        for call in code.all(ast.Call)
        for one in (*call.args, *(word.value for word in call.keywords))
        if isinstance(one, ast.Name) and one.id in holders
    }
    yaml = any(code.dotted(one.func).startswith("yaml.") for one in code.all(ast.Call))
    texts = [one.value for one in code.all(ast.Constant) if isinstance(one.value, str)]
    facts = replace(
        words_of(code.text),
        read=frozenset(_reads(code, nodes)),
        handed=frozenset(handed),
        defined=frozenset(one.name for kind in _NAMED for one in code.all(kind)),
        yaml=frozenset(Path(one).name for one in texts if one.endswith((".yaml", ".yml"))) if yaml else frozenset(),
        converts=any(
            code.dotted(call.func) == "float" and call.args and _WORD.search(ast.unparse(call.args[0]))
            for call in code.all(ast.Call)
        ),
    )
    return facts, declared


def _declared(code: Code) -> Iterator[Hit]:
    """Options of argparse and click, and fields of dataclasses without a base."""
    for call in code.all(ast.Call):
        name = option(call)
        if not name and code.dotted(call.func) == "click.option":
            name = option(ast.Call(ast.Attribute(call.func, "add_argument"), call.args, []))
        if DECAY.fullmatch(name):
            yield Hit(call, f'"{name}" is an option, and nothing reads it')
    for home in code.all(ast.ClassDef):
        decorators = [one.func if isinstance(one, ast.Call) else one for one in home.decorator_list]
        if home.bases or not any(code.dotted(one) == "dataclasses.dataclass" for one in decorators):
            continue
        for one in home.body:
            target = one.target if isinstance(one, ast.AnnAssign) else None
            if isinstance(target, ast.Name) and DECAY.fullmatch(target.id):
                # Instances travel: what other libraries do with them is not to be seen.
                yield Hit(one, f'"{target.id}" is a field of {home.name}, and nothing reads it', "info")
    for node, key, name in _keys_beside_those_read(code):
        yield Hit(node, f'"{key}" stands in {name}, of which other keys are read, and nothing reads it')


def _keys_beside_those_read(code: Code) -> Iterator[tuple[ast.expr, str, str]]:
    """A weight_decay in a dictionary that is written out, and used by its other keys alone, one by one."""
    for one in code.all(ast.Assign):
        name = one.targets[0].id if isinstance(one.targets[0], ast.Name) else ""
        written = one.value.keys if name and isinstance(one.value, ast.Dict) else []
        keys = {key.value: key for key in written if isinstance(key, ast.Constant) and isinstance(key.value, str)}
        here = [key for key in keys if DECAY.fullmatch(key)]
        if not here or "params" in keys:
            continue
        uses = [use for use in code.all(ast.Name) if use.id == name and use not in one.targets]
        read = [_key_read(code, use) for use in uses]
        if read and all(read) and not set(here) & set(read):
            yield keys[here[0]], here[0], name


def _key_read(code: Code, use: ast.Name) -> str:
    """The key by which a dictionary is used here; "" where it is used otherwise."""
    up = code.parents.get(use)
    if isinstance(up, ast.Subscript) and isinstance(up.ctx, ast.Load) and isinstance(up.slice, ast.Constant):
        return str(up.slice.value)
    call = code.parents.get(up) if isinstance(up, ast.Attribute) and up.attr == "get" else None
    first = call.args[0] if isinstance(call, ast.Call) and call.args else None
    return str(first.value) if isinstance(first, ast.Constant) else ""


def _reads(code: Code, declarations: set[ast.AST]) -> Iterator[str]:
    for attribute in code.all(ast.Attribute):
        if isinstance(attribute.ctx, ast.Load) and _WORD.fullmatch(attribute.attr):
            yield attribute.attr
    for name in code.all(ast.Name):
        if isinstance(name.ctx, ast.Load) and _WORD.fullmatch(name.id):
            yield name.id
    for text in code.all(ast.Constant):
        # Docstrings are for people, and keys of dictionaries are written.
        is_read = not isinstance(code.parents[text], ast.Dict | ast.Expr)
        if isinstance(text.value, str) and text not in declarations and is_read:
            yield from _WORD.findall(text.value)


def project_findings(
    given: list[Path], files: list[Path], facts: list[Facts], exclude: Iterable[str]
) -> Iterator[Finding]:
    """What all files together say."""
    part_of = _parts(files, facts)
    for path, one in zip(files, facts, strict=True):
        if not one.declared:
            continue
        # A file that this one has nothing to do with may read an option of the same name: another one.
        beside = [other for at, other in zip(files, facts, strict=True) if part_of[at] == part_of[path]]
        read = frozenset[str]().union(*(other.read for other in beside))
        defined = frozenset[str]().union(*(other.defined for other in beside)) | _HARMLESS
        opaque = any(other.is_opaque for other in beside)
        for name, finding in one.declared:
            if name not in read and not opaque and one.handed <= defined:
                note = finding.severity == "info" or not _is_whole(path, given)
                yield replace(finding, severity="info" if note else finding.severity)
    yield from _yaml_findings(given, facts, exclude)


def _parts(files: list[Path], facts: list[Facts]) -> dict[Path, Path]:
    """For each file one that stands for all that it is bound to by imports, in either direction."""
    leader = {path: path for path in files}

    def find(path: Path) -> Path:
        while leader[path] != path:
            path = leader[path] = leader[leader[path]]
        return path

    called: dict[str, list[Path]] = {}
    for path in files:
        called.setdefault(path.parent.name if path.stem == "__init__" else path.stem, []).append(path)
    for path, one in zip(files, facts, strict=True):
        # Modules that are imported by names which are made up may be any.
        names = called.keys() if one.imports & _BY_NAME else one.imports & called.keys()
        for other in (other for name in names for other in called[name]):
            leader[find(path)] = find(other)
    return {path: find(path) for path in files}


def _is_whole(path: Path, given: list[Path]) -> bool:
    """Whether all of the project that a file belongs to is looked at."""
    here = path.resolve()
    root = next((one for one in here.parents if any((one / mark).exists() for mark in _MARKS)), here.parent)
    if any(one.is_dir() and (root == one.resolve() or one.resolve() in root.parents) for one in given):
        return True
    return root == here.parent and [*root.glob("*.py")] == [root / path.name]


def _yaml_findings(given: list[Path], facts: list[Facts], exclude: Iterable[str]) -> Iterator[Finding]:
    """`weight_decay: 1e-4`, which PyYAML reads as text: YAML 1.1 wants a point and a sign."""
    rule = next(check.rule for check in CHECKS if check.rule.code == "WD509")
    named = frozenset[str]().union(*(one.yaml for one in facts))
    converts = any(one.converts for one in facts)
    for path in find_named(given, (".yaml", ".yml"), exclude):
        text = path.read_text(encoding="utf-8", errors="replace") if path.stat().st_size < 1_000_000 else ""
        for number, line in enumerate(text.splitlines(), start=1):
            found = _YAML.match(line) if "e" in line or "E" in line else None
            if found is not None and not _YAML_FLOAT.fullmatch(found[3]):
                start, end = found.start(3) + 1, found.end(3) + 1
                place = Place(path.as_posix(), number, start, number, end, text=line[:400])
                told: Severity = "warning" if path.name in named and not converts else "info"
                what = f"{found[3]} is text to PyYAML, which wants a point and a sign: {float(found[3]):.1e}"
                fix = "Write it so, or make a number of it where it is read: float(...)."
                yield finding_of(rule, what, place, severity=told, fix=fix, place=place)
