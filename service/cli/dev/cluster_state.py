"""Decides whether the data folder needs a new PostgreSQL cluster: only at its very first start.

A cluster that is missing later was moved away, or its disk is not mounted. A new, empty cluster in
its place would hide the data, and the old folder could not be put back.
"""

from contextlib import suppress
from pathlib import Path

from service.cli.processes import StartError

MARKER = "postgres.initialised"
_FORMER_LIFE = (MARKER, "admin.key", "secret.key")
"""Files beside the cluster that prove an earlier run with a working database."""


def has_cluster(folder: Path) -> bool:
    """Whether the folder has a cluster. If not, a new cluster may be initialised there.

    Raises StartError if a cluster was there before, or if a part of it is missing.
    """
    if (folder / "PG_VERSION").exists():
        return True
    if folder.exists() and any(folder.iterdir()):
        raise StartError(f"{folder}/PG_VERSION is missing: put it back.")
    signs = [name for name in _FORMER_LIFE if (folder.parent / name).exists()]
    if signs:
        state = "is empty" if folder.exists() else "is missing"
        raise StartError(
            f"{folder} {state}, but Leadlog has run here before ({signs[0]} is there): put it "
            "back, or set another DATA_DIR to start without data."
        )
    return False


def record_cluster(folder: Path) -> None:
    """Records that the cluster was started once."""
    with suppress(OSError):  # such as a full disk: the next start tries again
        (folder.parent / MARKER).touch(mode=0o600)
