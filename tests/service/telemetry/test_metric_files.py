"""Metrics of several processes on a full disk: no process ends or loses its counts."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.telemetry.metric_files import FIRST_BYTES, ReservedFile, reserve
from tests.harness.small_disk import mount_small_disk

SMALL_DISK = 1024 * 1024

COUNT_ON_A_FULL_DISK = """
import os, sys
from pathlib import Path
folder = Path(os.environ["PROMETHEUS_MULTIPROC_DIR"])
ballast = folder / "ballast"
def fill():
    with ballast.open("ab", buffering=0) as file:
        try:
            while file.write(bytes(4096)): pass
        except OSError: pass
if sys.argv[1] == "before": fill()
from prometheus_client import Counter
from service.telemetry.metrics import render_metrics
counter = Counter("leadlog_test", "Of a test.", ["number"])
counter.labels("first").inc()
fill()
for number in range(5000):
    counter.labels(f"number {number} with a long name to fill the file" + "x" * 100).inc()
counter.labels("first").inc()
print(counter.labels("first")._value.get(), counter.labels(
    "number 4999 with a long name to fill the file" + "x" * 100)._value.get())
ballast.unlink()
print(b'leadlog_test_total{number="first"} 2.0' in render_metrics())
"""


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with mount_small_disk(tmp_path / "disk", SMALL_DISK) as folder:
        yield folder


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_process_that_counts_on_a_full_disk_keeps_running(small_disk: Path, when: str) -> None:
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", COUNT_ON_A_FULL_DISK, when],
        env={**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(small_disk)},
        cwd=Path(__file__).resolve().parents[3],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    counted, told = done.stdout.splitlines()
    assert counted == "2.0 1.0"
    if when == "after":
        assert told == "True"


COUNT_WITHOUT_A_FOLDER = """
import os, sys
from pathlib import Path
folder = Path(os.environ["PROMETHEUS_MULTIPROC_DIR"])
from prometheus_client import Counter
from service.telemetry.metrics import render_metrics
counter = Counter("leadlog_test", "Of a test.")
counter.inc()
folder.rename(folder.with_name("away"))
counter.inc()
print(b"leadlog_test_total 2.0" in render_metrics())
folder.mkdir()
print(b"leadlog_test_total 2.0" in render_metrics())
"""


def test_a_process_whose_folder_is_moved_away_reports_its_own_metrics(tmp_path: Path) -> None:
    folder = tmp_path / "metrics"
    folder.mkdir()
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", COUNT_WITHOUT_A_FOLDER],
        env={**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(folder)},
        cwd=Path(__file__).resolve().parents[3],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.stdout.split(), done.stderr) == (["True", "True"], "")


def test_no_part_of_a_file_is_sparse(tmp_path: Path) -> None:
    path = tmp_path / "counter_1.db"
    metrics = ReservedFile(str(path))
    for number in range(3000):
        metrics.write_value(f"metric {number} {'x' * 80}", float(number), 0.0)
    found = path.stat()
    assert found.st_size > FIRST_BYTES
    assert found.st_blocks * 512 >= found.st_size
    metrics.close()
    again = ReservedFile(str(path))
    assert again.read_value(f"metric 2999 {'x' * 80}") == (2999.0, 0.0)
    again.close()


def test_a_failed_reservation_leaves_the_file_unchanged(small_disk: Path) -> None:
    path = small_disk / "counter_1.db"
    reserve(path, 4096)
    with pytest.raises(OSError, match="No space"):
        reserve(path, 2 * SMALL_DISK)
    assert path.stat().st_size == 4096
