import os
from pathlib import Path

import pytest

from service.dev.datafolder import prepare_folder, prepare_subfolder, read_secret, write_secret
from service.dev.serverfiles import find_server_user
from service.processes import StartError

ROOT = os.geteuid() == 0


def mode_of(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_a_new_folder_is_ours_alone_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        folder = prepare_folder(tmp_path / "deep" / "er")
    finally:
        os.umask(before)
    assert mode_of(folder) == 0o700


def test_a_link_of_ours_to_a_folder_of_ours_is_followed(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    assert prepare_folder(tmp_path / "link") == tmp_path / "disk"


def test_no_permission_of_an_existing_folder_changes(tmp_path: Path) -> None:
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
    (tmp_path / "data").symlink_to("/tmp")  # noqa: S108
    with pytest.raises(StartError, match="cannot be used"):
        prepare_folder(tmp_path / "data")


@pytest.mark.skipif(not ROOT, reason="only root can make a folder of somebody else's")
def test_a_folder_of_somebody_else_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir(mode=0o700)
    os.chown(folder, 65534, 65534)
    with pytest.raises(StartError, match="it belongs to another user"):
        prepare_folder(folder)


@pytest.mark.skipif(ROOT, reason="root may write everywhere")
def test_a_folder_that_we_cannot_write_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir(mode=0o500)
    with pytest.raises(StartError, match="not writable"):
        prepare_folder(folder)


@pytest.mark.parametrize("path", ["file", "file/below", "ring", "/proc/leadlog"])
def test_what_cannot_be_a_folder_is_refused(tmp_path: Path, path: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "ring").symlink_to("ring")
    with pytest.raises(
        StartError, match=r"^The data folder .* cannot be used \(.*\): set DATA_DIR"
    ):
        prepare_folder(tmp_path / path)


def test_a_planted_link_gets_no_owner_or_mode_of_ours(tmp_path: Path) -> None:
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


def test_a_secret_is_ours_alone_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        write_secret(tmp_path / "admin.key", "sk_live_1")
    finally:
        os.umask(before)
    assert mode_of(tmp_path / "admin.key") == 0o600
    assert read_secret(tmp_path / "admin.key") == "sk_live_1"


def test_a_secret_is_replaced_whole(tmp_path: Path) -> None:
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


def test_a_link_or_pipe_in_a_secrets_place_is_refused(tmp_path: Path) -> None:
    write_secret(tmp_path / "real", "x")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    os.mkfifo(tmp_path / "pipe", 0o600)
    for name in ("link", "pipe"):
        with pytest.raises(StartError, match="move it away"):
            read_secret(tmp_path / name)
