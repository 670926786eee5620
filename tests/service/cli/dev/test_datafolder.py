import errno
import os
from pathlib import Path

import pytest

from service.cli.commands.addresses import write_dev_addresses
from service.cli.dev.data_folder import (
    explain_file_errors,
    make_empty_folder,
    prepare_folder,
    prepare_subfolder,
)
from service.cli.dev.server_programs import find_server_user
from service.cli.processes import StartError
from service.cli.secret_files import read_secret, write_secret

ROOT = os.geteuid() == 0


def mode_of(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_a_new_folder_is_private_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        folder = prepare_folder(tmp_path / "deep" / "er")
    finally:
        os.umask(before)
    assert mode_of(folder) == 0o700


def test_a_link_of_the_user_to_a_folder_of_the_user_is_followed(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    assert prepare_folder(tmp_path / "link") == tmp_path / "disk"


def test_an_existing_folder_keeps_its_permissions(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir(mode=0o755)
    prepare_folder(tmp_path / "data")
    assert mode_of(tmp_path / "data") == 0o755


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o1777])
def test_a_folder_that_others_can_write_is_refused(tmp_path: Path, mode: int) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    folder.chmod(mode)
    with pytest.raises(StartError, match=r"others may write in it\): set DATA_DIR to a folder"):
        prepare_folder(folder)


def test_a_link_to_a_folder_that_others_can_write_is_refused(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o1777)  # like /tmp
    (tmp_path / "data").symlink_to(tmp_path / "open")
    with pytest.raises(StartError, match="cannot be used"):
        prepare_folder(tmp_path / "data")


@pytest.mark.skipif(not ROOT, reason="only root can make a folder of somebody else's")
def test_a_folder_of_another_user_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir(mode=0o700)
    os.chown(folder, 65534, 65534)
    with pytest.raises(StartError, match="it belongs to another user"):
        prepare_folder(folder)


@pytest.mark.skipif(ROOT, reason="root may write everywhere")
def test_a_folder_that_is_not_writable_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir(mode=0o500)
    with pytest.raises(StartError, match="not writable"):
        prepare_folder(folder)


@pytest.mark.parametrize("path", ["file", "file/below", "ring", "/proc/leadlog"])
def test_a_path_that_cannot_be_a_folder_is_refused(tmp_path: Path, path: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "ring").symlink_to("ring")
    with pytest.raises(
        StartError, match=r"^The data folder .* cannot be used \(.*\): set DATA_DIR"
    ):
        prepare_folder(tmp_path / path)


def test_the_target_of_a_planted_link_keeps_its_owner_and_mode(tmp_path: Path) -> None:
    user = find_server_user()
    victim = tmp_path / "victim"
    victim.mkdir(mode=0o750)
    (tmp_path / "postgres").symlink_to(victim)
    before = victim.stat()
    with pytest.raises(StartError, match="should be a folder of mode 0700"):
        prepare_subfolder(tmp_path, "postgres", user.uid, user.gid)
    after = victim.stat()
    assert (after.st_uid, after.st_mode) == (before.st_uid, before.st_mode)


def test_a_subfolder_open_to_others_is_refused(tmp_path: Path) -> None:
    user = find_server_user()
    prepare_subfolder(tmp_path, "postgres", user.uid, user.gid).chmod(0o750)
    with pytest.raises(StartError, match="should be a folder of mode 0700"):
        prepare_subfolder(tmp_path, "postgres", user.uid, user.gid)


@pytest.mark.parametrize("kind", ["nothing", "file", "link", "folder"])
def test_an_empty_folder_replaces_whatever_was_there(tmp_path: Path, kind: str) -> None:
    path, target = tmp_path / "metrics", tmp_path / "target"
    target.mkdir()
    (target / "kept").touch()
    if kind == "file":
        path.touch()
    elif kind == "link":
        path.symlink_to(target)
    elif kind == "folder":
        (path / "deep").mkdir(parents=True)
    assert list(make_empty_folder(path).iterdir()) == []
    assert (path.is_symlink(), mode_of(path)) == (False, 0o700)
    assert (target / "kept").exists()


def test_a_secret_file_is_private_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        write_secret(tmp_path / "admin.key", "sk_live_1")
    finally:
        os.umask(before)
    assert mode_of(tmp_path / "admin.key") == 0o600
    assert read_secret(tmp_path / "admin.key") == "sk_live_1"


def test_a_secret_file_is_replaced_completely(tmp_path: Path) -> None:
    write_secret(tmp_path / "admin.key", "a long first value")
    write_secret(tmp_path / "admin.key", "short")
    assert (tmp_path / "admin.key").read_text() == "short\n"
    assert [path.name for path in tmp_path.iterdir()] == ["admin.key"]


def test_no_secret_is_written_through_a_planted_link(tmp_path: Path) -> None:
    (tmp_path / "public").touch()
    for name in ("admin.key", "admin.key.new"):
        (tmp_path / name).symlink_to(tmp_path / "public")
    write_secret(tmp_path / "admin.key", "sk_live_1")
    assert (tmp_path / "public").read_text() == ""
    assert not (tmp_path / "admin.key").is_symlink()


def test_a_missing_secret_is_none(tmp_path: Path) -> None:
    assert read_secret(tmp_path / "admin.key") is None


def test_a_secret_that_others_can_read_is_refused(tmp_path: Path) -> None:
    write_secret(tmp_path / "admin.key", "x")
    (tmp_path / "admin.key").chmod(0o640)
    with pytest.raises(StartError, match=r"can be read by others: .* chmod 600"):
        read_secret(tmp_path / "admin.key")


def test_a_link_pipe_or_folder_instead_of_a_secret_file_is_refused(tmp_path: Path) -> None:
    write_secret(tmp_path / "real", "x")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    os.mkfifo(tmp_path / "pipe", 0o600)
    (tmp_path / "folder").mkdir(mode=0o700)
    for name in ("link", "pipe", "folder"):
        with pytest.raises(StartError, match=f"{tmp_path / name} .*move it away"):
            read_secret(tmp_path / name)


@pytest.mark.parametrize("name", ["dev.env", "dev.env.new"])
def test_a_folder_instead_of_a_file_is_reported_with_a_remedy(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    with (
        pytest.raises(
            StartError, match=rf"/{name} cannot be used \(Is a directory\): move it away"
        ),
        explain_file_errors(tmp_path),
    ):
        write_dev_addresses(tmp_path, "postgresql:///", "unix:///x", "key")


def test_a_full_disk_and_errors_about_other_files_are_not_blamed_on_a_file(tmp_path: Path) -> None:
    full = OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "dev.env"))
    with pytest.raises(StartError, match=r"free disk space"), explain_file_errors(tmp_path):
        raise full
    with pytest.raises(IsADirectoryError), explain_file_errors(tmp_path / "data"):
        tmp_path.open()
