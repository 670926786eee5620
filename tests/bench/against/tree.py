"""Another commit of this repository, checked out in a temporary folder with packages to run it."""

import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from service.cli.dev.data_folder import prepare_folder
from service.cli.dev.supervisor import PROJECT
from tests.bench.programs import LoadError, run_program

LOCK = Path("deploy/requirements.txt")
INSTALL_S = 600.0


@dataclass(frozen=True)
class Tree:
    """A folder with Leadlog's code, and the Python whose packages it runs on."""

    name: str
    commit: str
    root: Path
    python: Path


OURS = Tree("ours", "as it stands", PROJECT, Path(sys.executable))


@asynccontextmanager
async def check_out(ref: str, say: Callable[[str], None]) -> AsyncIterator[Tree]:
    """A git worktree of `ref` that is removed afterwards; LoadError if there is no such commit."""
    commit = find_commit(ref)
    with tempfile.TemporaryDirectory(prefix="leadlog-against-") as folder:
        root = prepare_folder(Path(folder)) / "tree"
        try:
            run_git("worktree", "add", "--detach", str(root), commit)
            yield Tree(ref, commit, root, await provide_python(root, say))
        finally:
            # Twice --force: git locks a worktree that is not complete yet.
            run_git("worktree", "remove", "--force", "--force", str(root))


def find_commit(ref: str) -> str:
    try:
        return run_git("rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}").strip()
    except LoadError:
        raise LoadError(f"--against: this repository has no commit {ref!r}.") from None


def run_git(*arguments: str) -> str:
    """The output of git. The call blocks for a second at most; Ctrl-C does not interrupt it."""
    done = subprocess.run(  # noqa: S603
        ["git", "-C", str(PROJECT), *arguments],  # noqa: S607  # the git on the path
        capture_output=True, text=True, check=False, start_new_session=True,
    )  # fmt: skip
    if done.returncode != 0:
        raise LoadError(f"git {arguments[0]} failed: {done.stderr.strip()}")
    return done.stdout


async def provide_python(root: Path, say: Callable[[str], None]) -> Path:
    """Our own Python if both trees lock the same packages; else a .venv inside the tree."""
    if has_our_packages(root):
        return OURS.python
    say("The other tree locks other packages: installing them.")
    environ = {"PYTHON": sys.executable}
    await run_program(["sh", ".ci/install", LOCK], INSTALL_S, environ, cwd=root)
    return root / ".venv" / "bin" / "python"


def has_our_packages(root: Path) -> bool:
    return (root / LOCK).read_bytes() == (PROJECT / LOCK).read_bytes()
