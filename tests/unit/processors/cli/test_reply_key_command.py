"""``python -m processors reply-key``."""

from __future__ import annotations

import base64
import stat
from pathlib import Path
from uuid import UUID

import msgspec
from click.testing import CliRunner, Result

from processors.cli.root import main
from processors.rules.replies import key_bytes, sealed
from schemas.messages import Decrypted, DecryptResult

MESSAGE = UUID(int=5)


def run(*arguments: str | Path, given: bytes = b"") -> Result:
    return CliRunner().invoke(main, ["reply-key", *map(str, arguments)], obj={}, input=given)


def test_a_key_is_made_shown_and_opens_what_was_sealed_to_it(tmp_path: Path) -> None:
    path = tmp_path / "key"
    public = run("new", path).stdout.strip()
    text = sealed(key_bytes(public), "grüße\n".encode(), message_id=MESSAGE, version=2)
    value = Decrypted(message_id=MESSAGE, version=2, sealed=text)
    result = msgspec.json.encode(DecryptResult(values=(value,), stored=0, missing=()))

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert run("show", path).stdout.strip() == public
    assert msgspec.json.decode(run("open", path, given=result).stdout) == {
        "messageId": str(MESSAGE),
        "version": 2,
        "content": "grüße\n",
    }
    assert path.read_text().strip() not in run("show", path).stdout


def test_faults_are_one_line(tmp_path: Path) -> None:
    path, other, wide = tmp_path / "key", tmp_path / "other", tmp_path / "wide"
    public = run("new", path).stdout.strip()
    run("new", other)
    wide.write_text(base64.b64encode(bytes(32)).decode())
    wide.chmod(0o644)
    short = tmp_path / "short"
    short.touch(0o600)
    short.write_text("AAAA")
    text = sealed(key_bytes(public), b"x", message_id=MESSAGE, version=1)
    value = Decrypted(message_id=MESSAGE, version=1, sealed=text)
    result = msgspec.json.encode(DecryptResult(values=(value,), stored=0, missing=()))

    for arguments, given, said in (
        (("new", path), b"", "cannot make"),
        (("show", tmp_path / "none"), b"", "cannot read"),
        (("show", wide), b"", "mode 0644"),
        (("show", short), b"", "32 bytes"),
        (("open", path), b"{}", "no result"),
        (("open", path), b"\xff", "no result"),
        (("open", other), result, "another key"),
    ):
        found = run(*arguments, given=given)
        assert found.exit_code == 1
        assert said in found.stderr
        assert len(found.stderr.splitlines()) == 1
