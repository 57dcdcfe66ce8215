"""``python -m processors keyring``."""

from __future__ import annotations

import base64
from pathlib import Path

from click.testing import CliRunner, Result

from processors.cli.root import main
from processors.services.keyrings import read_keyring


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["keyring", *map(str, arguments)], obj={})


def test_a_keyring_is_made_extended_turned_and_listed(tmp_path: Path) -> None:
    path = tmp_path / "ring"

    assert "PROCESSORS_ENCRYPTION_KEYRING_FILE=" in run("new", path).stdout
    assert run("add", path, "b").exit_code == 0
    assert run("add", path, "c", "--primary").exit_code == 0
    assert list(read_keyring(path)) == ["c", "first", "b"]
    assert run("primary", path, "b").exit_code == 0

    listed = run("list", path).stdout
    assert [line.split()[0] for line in listed.splitlines()] == ["b", "c", "first"]
    assert listed.splitlines()[0].endswith("primary")
    for key in read_keyring(path).values():
        assert base64.b64encode(key).decode() not in listed
        assert key.hex() not in listed


def test_a_keyring_is_never_lost_to_a_command(tmp_path: Path) -> None:
    path = tmp_path / "ring"
    run("new", path, "--id", "a")
    before = read_keyring(path)

    for arguments, said in (
        (("new", path), "is there already"),
        (("add", path, "a"), "there is a key a already"),
        (("add", path, "a=b"), "must match"),
        (("primary", path, "z"), "has no key z"),
        (("list", tmp_path / "none"), "cannot read"),
        (("new", "/proc/no/ring"), "cannot make"),
    ):
        found = run(*arguments)
        assert found.exit_code == 1
        assert said in found.stderr
    assert read_keyring(path) == before
