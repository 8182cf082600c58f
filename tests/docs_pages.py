"""The pages of the docs: read, run as a reader would, and written with what their code prints.

`make outputs` runs every page and writes below each block of Python what it printed.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import io
import itertools
import math
import os
import re
import shlex
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from click.testing import CliRunner

from torchdecay.cli import main

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src"
PAGES = [path for path in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))) if path.exists()]
NEEDS = re.compile(r"^<!-- needs: (.*) -->$", re.MULTILINE)
"""What a page on other libraries begins with: such pages are run where those are, by `make peers`."""
SCRIPTS = "<!-- each block is a script -->"
"""What a page says whose blocks of Python are to be pasted one by one: each is run in a namespace of its own."""
LANGUAGES = {"python", "output", "yaml", "console", "text", "json", "toml", "csv", "bibtex"}
RUN = "import sys; sys.argv[0] = 'torchdecay'; from torchdecay.cli import main; main()"
COLUMNS = "100"
"""How wide output on a page is."""


@dataclass(frozen=True)
class Block:
    """A fenced block of code: its language, its text, the line where the text starts, and the file that it is."""

    language: str
    text: str
    line: int
    title: str = ""
    indent: str = field(default="", compare=False)
    span: tuple[int, int] = field(default=(0, 0), compare=False)
    """From the first character of the opening fence to the last of the closing one."""


@dataclass
class Command:
    """A `$ ...` line of a console block, the output that the page shows below it, the exit code it owes."""

    line: str
    shown: list[str] = field(default_factory=list)
    code: int = 0


def read_blocks(page: str) -> list[Block]:
    """Return the fenced blocks of a page, without the indentation that a list or a tab gives them."""
    found = []
    fence = re.compile(r"^([ \t]*)(```+)[ \t]*([^\n`]*)\n(.*?)^\1\2[ \t]*$", re.MULTILINE | re.DOTALL)
    for match in fence.finditer(page):
        indent, _, info, text = match.groups()
        lines = [line.removeprefix(indent) for line in text.splitlines()]
        title = re.search(r' title="([^"]+)"$', info := info.strip())
        language = info[: title.start()] if title else info
        line = page[: match.start(4)].count("\n") + 1
        found.append(Block(language, "\n".join(lines), line, title[1] if title else "", indent, match.span()))
    return found


def read_commands(text: str) -> list[Command]:
    """Return the commands of a console block; `$ echo $?` and its output tell the exit code before it."""
    commands: list[Command] = []
    asked = False
    for line in text.splitlines():
        if line.strip() == "$ echo $?":
            asked = True
        elif line.startswith("$ "):
            commands.append(Command(line.removeprefix("$ ")))
            asked = False
        elif asked:
            commands[-1].code = int(line)
            asked = False
        elif commands and commands[-1].line.endswith("\\"):
            commands[-1].line = commands[-1].line.removesuffix("\\") + line.strip()
        elif commands and line.strip():
            commands[-1].shown.append(line.rstrip())
    return commands


def shows(shown: list[str], printed: str) -> str:
    """Return the first shown line that is not printed, in order, or nothing; `...` stands for anything."""
    rest = iter(" ".join(line.split()) for line in printed.splitlines())
    for line in shown:
        pattern = ".*".join(re.escape(" ".join(part.split())) for part in line.split("..."))
        if not any(re.search(pattern, candidate) for candidate in rest):
            return line
    return ""


def alike(shown: str, printed: str) -> bool:
    """Whether a line is the one that is shown: `...` stands for anything, and numbers may differ by a hundredth.

    Sums of another processor round otherwise, and what is trained with them differs in its last digits.
    """
    if "..." in shown:
        return not shows([shown], printed)
    (words, numbers), (others, found) = map(words_and_numbers, (shown, printed))
    return words == others and all(map(functools.partial(math.isclose, rel_tol=0.01, abs_tol=1e-9), numbers, found))


def words_and_numbers(line: str) -> tuple[list[str], list[float]]:
    """A line without its numbers, and these."""
    number = r"\d[\d,]*(?:\.\d+)?(?:[eE][-+]?\d+)?"
    words = re.sub(number, "#", line).split()
    return words, [float(one.replace(",", "")) for one in re.findall(number, line)]


def run_command(command: Command, folder: Path) -> None:
    """Run one line as a user would, but in this process, and compare exit code and shown output."""
    words = shlex.split(command.line, comments=True)[1:]
    if words[0] == "run":
        # It becomes the script, which needs a process of its own.
        done = run_alone(words, folder)
        return compare(command, done.returncode, done.stdout)
    if "--" in words:
        link_examples(folder)
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
    found = CliRunner().invoke(main, words, env={"COLUMNS": "120", "PATH": path})
    if found.exception is not None and not isinstance(found.exception, SystemExit):
        raise found.exception
    compare(command, found.exit_code, found.output)
    forget(folder)


def run_alone(words: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """In a process of its own, where the examples are; both streams in one, as a terminal shows them."""
    link_examples(folder)
    env = os.environ | {"PYTHONPATH": str(SOURCE), "COLUMNS": "120", "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-c", RUN, *words]
    one = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    return subprocess.run(command, cwd=folder, env=env, text=True, check=False, **one)


def link_examples(folder: Path) -> None:
    if not (folder / "examples").exists():
        (folder / "examples").symlink_to(ROOT / "examples")


def compare(command: Command, code: int, printed: str) -> None:
    said = f"$ {command.line}\n{printed}"
    assert code == command.code, f"exit code {code}, not {command.code}:\n{said}"
    missing = shows(command.shown, printed)
    assert not missing, f"the page shows {missing!r}, which is not printed there:\n{said}"


def forget(folder: Path) -> None:
    """Let the next command import the modules of this folder anew, as a process of its own would."""
    for name, module in list(sys.modules.items()):
        if (getattr(module, "__file__", None) or "").startswith(f"{folder}{os.sep}"):
            del sys.modules[name]
    sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != folder.resolve()]


@dataclass
class Printed:
    """A block of Python that printed something, what that was, and the block of output that shows it, if any."""

    block: Block
    text: str
    shown: Block | None

    @property
    def true(self) -> bool:
        """Whether the page shows each line that was printed and no other."""
        shown, printed = (self.shown.text if self.shown else "").splitlines(), self.text.splitlines()
        return len(shown) == len(printed) and all(map(alike, shown, printed))


def run_page(page: Path, folder: Path) -> list[Printed]:
    """Run a page from top to bottom: Python in one namespace, commands in one folder; a titled block is a file."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    printed: list[Printed] = []
    text = page.read_text(encoding="utf-8")
    # Other libraries print of themselves.
    owed = not NEEDS.search(text)
    blocks = read_blocks(text)
    for block, after in itertools.zip_longest(blocks, blocks[1:]):
        assert block.language in LANGUAGES, f"{page.name}:{block.line} is {block.language!r}: say one of {LANGUAGES}"
        if block.title:
            (folder / block.title).write_text(block.text + "\n", encoding="utf-8")
        elif block.language == "python":
            if SCRIPTS in text:
                namespace = {"__name__": "__main__"}
            # Empty lines in front, so that an error names the line of the page.
            source = "\n" * (block.line - 1) + block.text
            with contextlib.redirect_stdout(io.StringIO()) as stream:
                exec(compile(source, str(page), "exec"), namespace)
            shown = after if after and after.language == "output" else None
            if shown or (owed and stream.getvalue().strip()):
                # Without the spaces that pad a table's last column.
                lines = [line.rstrip() for line in stream.getvalue().strip("\n").splitlines()]
                printed.append(Printed(block, "\n".join(lines), shown))
        elif block.language == "console":
            for command in read_commands(block.text):
                if command.line.split()[0] == "torchdecay":
                    run_command(command, folder)
    return printed


def with_outputs(page: str, printed: list[Printed]) -> str:
    """The text of a page with what each block printed below it."""
    for one in reversed(printed):
        if not one.true:
            indent, start = one.block.indent, one.block.span[1]
            lines = ["```output", *one.text.splitlines(), "```"]
            new = "\n\n" + "\n".join((indent + line).rstrip() for line in lines)
            page = page[:start] + new + page[one.shown.span[1] if one.shown else start :]
    return page


def write_outputs() -> None:
    """Run every page whose libraries are installed, and write what its code printed."""
    os.environ["COLUMNS"] = COLUMNS
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        needed = " ".join(NEEDS.findall(text)).split()
        if all(map(importlib.util.find_spec, needed)) and "```python" in text:
            with tempfile.TemporaryDirectory() as folder:
                os.chdir(folder)
                sys.modules["__main__"] = ModuleType("__main__")
                written = with_outputs(text, run_page(page, Path(folder)))
                os.chdir(ROOT)
            if written != text:
                page.write_text(written, encoding="utf-8")
                print(f"wrote {page.relative_to(ROOT)}", file=sys.stderr)


if __name__ == "__main__":
    write_outputs()
