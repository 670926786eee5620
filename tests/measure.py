"""`make measure`: the size of the code by folder, file and function; standard library only.

ARGS='--against REF' also shows the numbers of another commit; ARGS=--json prints JSON. Lines are
all lines of a file, blank ones and comments included. A function's lines are counted from its `def`
to its end, without decorators and docstring, with nested functions.
"""

import argparse
import ast
import io
import json
import re
import statistics
import subprocess
import sys
import tarfile
import tokenize
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

PROJECT = Path(__file__).resolve().parents[1]
PARTS = {"product": ("service", "workers", "sql"), "tests": ("tests",)}
_FORMAT = re.compile(r"#\s*fmt:\s*(off|skip)\b")
_TYPE = re.compile(r"#\s*type:\s*ignore\b")

Files = Mapping[PurePosixPath, str]
"""The text of each file, by its path inside the tree."""


@dataclass(frozen=True)
class Sizes:
    """The sizes of files or functions, in lines."""

    count: int
    median: float
    p90: float
    max: int
    largest: str


@dataclass(frozen=True)
class Measures:
    """The measures of the Python files of one part of a tree."""

    lines: int
    lines_by_room: dict[str, int]
    files: Sizes
    functions: Sizes
    files_at_the_top: int
    """The number of files directly in service/ or tests/."""
    most_files_in_a_folder: int
    fullest_folder: str
    format_escapes: int
    """The number of comments `fmt: off` and `fmt: skip`."""
    type_ignores: int
    type_ignores_per_1000_lines: float
    migrations: int


def measure(files: Files, roots: Sequence[str]) -> Measures:
    """Measures the files below `roots`, folders at the top of the tree."""
    chosen = {path: text for path, text in files.items() if path.parts[0] in roots}
    python = {path: text for path, text in chosen.items() if path.suffix == ".py"}
    lines = {str(path): len(text.splitlines()) for path, text in python.items()}
    rooms = Counter[str]()
    for path in python:
        rooms["/".join(path.parts[:2][: len(path.parts) - 1])] += lines[str(path)]
    folders = Counter(str(path.parent) for path in python)
    fullest = max(folders, key=lambda name: (folders[name], name), default="")
    comments = [comment for text in python.values() for comment in list_comments(text)]
    ignores = sum(bool(_TYPE.search(comment)) for comment in comments)
    total = sum(lines.values())
    return Measures(
        lines=total,
        lines_by_room=dict(sorted(rooms.items())),
        files=measure_sizes(lines),
        functions=measure_sizes(dict(list_functions(python))),
        files_at_the_top=folders[roots[0]],
        most_files_in_a_folder=folders[fullest],
        fullest_folder=fullest,
        format_escapes=sum(bool(_FORMAT.search(comment)) for comment in comments),
        type_ignores=ignores,
        type_ignores_per_1000_lines=round(1000 * ignores / total, 2) if total else 0.0,
        migrations=sum(path.match("migrations/*.sql") for path in chosen),
    )


def measure_sizes(lines: Mapping[str, int]) -> Sizes:
    """The sizes by name, summarised; at least nine of ten are at most p90 lines long."""
    if not lines:
        return Sizes(0, 0, 0, 0, "")
    ordered = sorted(lines.values())
    p90 = ordered[-(-9 * len(ordered) // 10) - 1]
    largest = max(lines, key=lambda name: (lines[name], name))
    return Sizes(len(ordered), statistics.median(ordered), p90, ordered[-1], largest)


def list_comments(text: str) -> Iterator[str]:
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.string


def list_functions(python: Files) -> Iterator[tuple[str, int]]:
    """The name and lines of every function and method."""
    for path, text in python.items():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield f"{path}:{node.lineno} {node.name}", count_lines(node)


def count_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    first = function.body[0]
    docstring = 0
    if ast.get_docstring(function, clean=False) is not None:
        docstring = (first.end_lineno or first.lineno) - first.lineno + 1
    return (function.end_lineno or function.lineno) - function.lineno + 1 - docstring


def read_tree(root: Path) -> Files:
    """The files of a working tree that git tracks or would add."""
    names = run_git(root, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    paths = [PurePosixPath(name) for name in names.decode().split("\0") if is_measured(name)]
    return {
        path: (root / path).read_text(encoding="utf-8")
        for path in paths
        if (root / path).is_file()  # git also lists tracked files that are deleted
    }


def read_commit(root: Path, ref: str) -> Files:
    """The files of a commit."""
    archive = run_git(root, "archive", "--format=tar", ref)
    files = {}
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        for member in tar:
            if is_measured(member.name) and (file := tar.extractfile(member)) is not None:
                files[PurePosixPath(member.name)] = file.read().decode()
    return files


def is_measured(name: str) -> bool:
    return name.endswith((".py", ".sql"))


def run_git(root: Path, *arguments: str) -> bytes:
    done = subprocess.run(  # noqa: S603
        ["git", "-C", str(root), *arguments],  # noqa: S607  # the git on the path
        capture_output=True, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        sys.exit(f"measure: git: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout


def measure_parts(files: Files) -> dict[str, Measures]:
    return {part: measure(files, roots) for part, roots in PARTS.items()}


Row = tuple[str, str, str]
"""A title, a number, and the place of the number."""


def make_rows(measures: Measures, rooms: Sequence[str]) -> list[Row]:
    """The rows to print: the same titles in the same order for every tree."""
    lines = measures.lines_by_room
    rows = [("lines", f"{measures.lines:,}", "")]
    rows += [(f"  {room}", f"{lines[room]:,}" if room in lines else "-", "") for room in rooms]
    for title, sizes in (("file", measures.files), ("function", measures.functions)):
        rows += [
            (f"{title}s", f"{sizes.count:,}", ""),
            ("  lines, median", f"{sizes.median:g}", ""),
            ("  lines, p90", f"{sizes.p90:g}", ""),
            ("  lines, max", f"{sizes.max:,}", sizes.largest),
        ]
    return [
        *rows,
        ("files at the top", str(measures.files_at_the_top), ""),
        ("files in a folder, max", str(measures.most_files_in_a_folder), measures.fullest_folder),
        ("fmt: off, fmt: skip", str(measures.format_escapes), ""),
        ("type: ignore per 1,000 lines", f"{measures.type_ignores_per_1000_lines:g}", ""),
        ("migrations", str(measures.migrations), ""),
    ]


def format_part(part: str, now: Measures, before: Measures | None) -> str:
    """A table with one number a line, or `before → now` if `before` is given."""
    both = [now] if before is None else [before, now]
    rooms = sorted({room for measures in both for room in measures.lines_by_room})
    lines = [part]
    for rows in zip(*(make_rows(measures, rooms) for measures in both), strict=True):
        title, _, found = rows[-1]
        numbers = " → ".join(f"{number:>7}" for _, number, _ in rows)
        lines.append(f"  {title:<32}{numbers}  {found}".rstrip())
    return "\n".join(lines)


def main(argv: Sequence[str]) -> None:
    first, _, more = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser("make measure", description=first, epilog=more)
    parser.add_argument("--against", metavar="REF", help="a commit to compare with")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(argv)
    now = measure_parts(read_tree(PROJECT))
    before = measure_parts(read_commit(PROJECT, options.against)) if options.against else {}
    if options.json:
        parts: dict[str, Any] = {
            name: {part: asdict(measures) for part, measures in parts.items()}
            for name, parts in (("before", before), ("now", now))
            if parts
        }
        print(json.dumps(parts, indent=1))  # noqa: T201
        return
    tables = [format_part(part, measures, before.get(part)) for part, measures in now.items()]
    print("\n\n".join(tables))  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1:])
