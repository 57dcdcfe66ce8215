"""Which migrations are outstanding, and which folders are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from processors.database.migrations import Migration, load, outstanding, packaged
from processors.errors import MigrationError

ONE, TWO, THREE = (Migration(f"000{n}_m.sql", "", f"sum{n}") for n in (1, 2, 3))
SUMS = {migration.name: migration.checksum for migration in (ONE, TWO, THREE)}


def test_outstanding_ones_come_in_order() -> None:
    assert outstanding([ONE, TWO, THREE], {ONE.name: ONE.checksum}) == [TWO, THREE]
    assert outstanding([ONE], SUMS) == []


def test_changed_file_is_refused() -> None:
    with pytest.raises(MigrationError, match="0001_m"):
        outstanding([ONE], {ONE.name: "other"})


def test_file_before_an_applied_one_is_refused() -> None:
    with pytest.raises(MigrationError, match=r"0002_m\.sql comes before 0003_m"):
        outstanding([ONE, TWO, THREE], {ONE.name: ONE.checksum, THREE.name: THREE.checksum})


def test_packaged_files_are_numbered_without_gaps() -> None:
    numbers = [int(migration.name[:4]) for migration in load(packaged())]

    assert numbers == list(range(1, len(numbers) + 1))


def test_line_ends_do_not_change_a_checksum(tmp_path: Path) -> None:
    (tmp_path / "0001_a.sql").write_bytes(b"SELECT 1;\nSELECT 2;\n")
    (tmp_path / "0002_b.sql").write_bytes(b"SELECT 1;\r\nSELECT 2;\r\n")

    one, two = load(tmp_path)

    assert one.checksum == two.checksum


@pytest.mark.parametrize("names", [["1_a.sql"], ["0001_A.sql"], ["0001_a.sql", "0001_b.sql"]])
def test_folder_with_doubtful_names_is_refused(tmp_path: Path, names: list[str]) -> None:
    for name in names:
        (tmp_path / name).write_text("")

    with pytest.raises(MigrationError):
        load(tmp_path)
