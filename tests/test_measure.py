"""The arithmetic of `make measure`, on a tree small enough to count by hand."""

import subprocess
from pathlib import Path, PurePosixPath

import pytest

from tests.measure import (
    Sizes,
    format_part,
    list_comments,
    measure,
    measure_sizes,
    read_commit,
    read_tree,
)

OUTER = '''"""A file."""


@decorated
def outer() -> int:
    """Two lines
    of docstring."""
    def inner() -> int:
        return 1

    return inner()  # fmt: skip
'''
TEXTS = {
    "service/__init__.py": "",
    "service/app.py": OUTER,
    "service/http/body.py": "x = 1  # type: ignore[name-defined]\ny = '# fmt: off'\n",
    "service/http/wire/frame.py": "# fmt: off\nasync def send() -> None: ...\n",
    "sql/migrations/0001_lead.sql": "CREATE TABLE lead ();\n",
    "sql/lead.sql": "SELECT 1;\n",
    "other/ignored.py": "z = 1\n",
}
TREE = {PurePosixPath(path): text for path, text in TEXTS.items()}


def test_lines_are_counted_by_package_file_and_function() -> None:
    found = measure(TREE, ("service", "workers", "sql"))
    assert found.lines == 15
    assert found.lines_by_room == {"service": 11, "service/http": 4}
    assert found.files == Sizes(4, 2, 11, 11, "service/app.py")
    # `outer` is seven lines with its docstring of two.
    assert found.functions == Sizes(3, 2, 5, 5, "service/app.py:5 outer")


def test_files_of_a_folder_are_counted_without_its_subfolders() -> None:
    found = measure(TREE, ("service",))
    assert found.files_at_the_top == 2
    assert (found.most_files_in_a_folder, found.fullest_folder) == (2, "service")


def test_escapes_are_counted_in_comments_only() -> None:
    found = measure(TREE, ("service",))
    assert (found.format_escapes, found.type_ignores) == (2, 1)
    assert found.type_ignores_per_1000_lines == 66.67
    assert list(list_comments("x = '# no'  # yes\n")) == ["# yes"]


def test_only_files_in_the_migrations_folder_count_as_migrations() -> None:
    assert measure(TREE, ("service", "sql")).migrations == 1


@pytest.mark.parametrize(
    ("count", "median", "p90"), [(1, 1, 1), (10, 5.5, 9), (11, 6, 10), (100, 50.5, 90)]
)
def test_nine_of_ten_are_at_most_as_large_as_the_p90(count: int, median: float, p90: int) -> None:
    sizes = measure_sizes({f"f{n:03}": n for n in range(count, 0, -1)})
    assert (sizes.median, sizes.p90, sizes.max) == (median, p90, count)


def test_an_empty_tree_measures_zero() -> None:
    found = measure({}, ("service",))
    assert (found.lines, found.functions, found.fullest_folder) == (0, Sizes(0, 0, 0, 0, ""), "")


def git(root: Path, *arguments: str) -> None:
    own = ["-c", "user.name=t", "-c", "user.email=t@leadlog.test", "-c", "commit.gpgsign=false"]
    command = ["git", "-C", str(root), *own, *arguments]
    subprocess.run(command, check=True, capture_output=True)  # noqa: S603


def test_a_commit_is_measured_as_it_was_and_the_folder_as_it_is(tmp_path: Path) -> None:
    for path, text in TEXTS.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    git(tmp_path, "init")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "first")
    (tmp_path / "service/app.py").unlink()
    (tmp_path / "service/http/new.py").write_text("a = 1\n")  # not added yet
    (tmp_path / ".gitignore").write_text("ignored.py\n")
    (tmp_path / "service/ignored.py").write_text("b = 1\n")
    before, now = read_commit(tmp_path, "HEAD"), read_tree(tmp_path)
    assert before == TREE
    assert now.keys() == TREE.keys() - {PurePosixPath("service/app.py")} | {
        PurePosixPath("service/http/new.py")
    }
    table = format_part("product", measure(now, ("service",)), measure(before, ("service",)))
    assert "\n  lines                                15 →       5\n" in table
    assert "\n    service                            11 →       0\n" in table
