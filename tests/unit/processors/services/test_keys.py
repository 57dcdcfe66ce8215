"""Key providers without a network."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from processors.errors import ConfigurationError, Refused
from processors.services.keyrings import open_keys, read_keyring, write_keyring
from processors.services.keys import KeyProviders, LocalKeyring, NoKeys, WrappedKey
from processors.settings import from_env

OLD, NEW = bytes(32), bytes([1]) * 32
CONTEXT = {"conversation": "c", "key": "k"}


async def test_a_keyring_opens_what_each_of_its_keys_wrapped() -> None:
    old = LocalKeyring({"old": OLD})
    key, wrapped = await old.generate(CONTEXT)
    both = LocalKeyring({"new": NEW, "old": OLD})

    assert wrapped.kek_id == "local:old"
    assert await both.unwrap(wrapped, CONTEXT) == key
    again = await both.wrap(key, CONTEXT)
    assert again.kek_id == await both.primary() == "local:new"
    assert await both.unwrap(again, CONTEXT) == key


async def test_generated_keys_differ() -> None:
    ring = LocalKeyring({"a": OLD})

    keys = {(await ring.generate(CONTEXT))[0] for _ in range(50)}

    assert len(keys) == 50
    assert {len(key) for key in keys} == {32}


async def test_a_key_that_is_missing_or_another_is_a_matter_of_configuration() -> None:
    _, wrapped = await LocalKeyring({"a": OLD}).generate(CONTEXT)

    with pytest.raises(ConfigurationError, match="has no key a"):
        await LocalKeyring({"b": NEW}).unwrap(wrapped, CONTEXT)
    with pytest.raises(ConfigurationError, match="not the one that wrapped"):
        await LocalKeyring({"a": NEW}).unwrap(wrapped, CONTEXT)


async def test_a_damaged_or_moved_data_key_is_refused() -> None:
    ring = LocalKeyring({"a": OLD})
    _, wrapped = await ring.generate(CONTEXT)
    damaged = WrappedKey(wrapped.kek_id, wrapped.wrapped[:-1] + b"\0")

    for key, context in ((damaged, CONTEXT), (wrapped, CONTEXT | {"key": "other"})):
        with pytest.raises(Refused, match="undecryptable"):
            await ring.unwrap(key, context)


async def test_without_a_provider_every_use_says_what_to_set() -> None:
    async with open_keys(from_env({}).encryption) as unset:
        for provider in (NoKeys(), unset):
            for call in (
                provider.primary(),
                provider.generate(CONTEXT),
                provider.wrap(OLD, CONTEXT),
                provider.unwrap(WrappedKey("local:a", b""), CONTEXT),
            ):
                with pytest.raises(ConfigurationError, match="keyring new FILE"):
                    await call


async def test_each_provider_opens_what_it_wrapped() -> None:
    """Goal: data keys move from one kind of provider to another without a pause."""
    local = LocalKeyring({"a": OLD})
    key, wrapped = await local.generate(CONTEXT)
    both = KeyProviders("other", {"local": local, "other": LocalKeyring({"b": NEW})})

    assert await both.unwrap(wrapped, CONTEXT) == key
    assert (await both.wrap(key, CONTEXT)).kek_id == "local:b"
    with pytest.raises(ConfigurationError, match="wrapped by kms:x"):
        await both.unwrap(WrappedKey("kms:x", b""), CONTEXT)


def test_a_keyring_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "ring"
    before = os.umask(0)
    try:
        write_keyring(path, {"a": OLD}, replace=False)
    finally:
        os.umask(before)

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert read_keyring(path) == {"a": OLD}
    assert [entry.name for entry in path.parent.iterdir()] == ["ring"]
    with pytest.raises(FileExistsError):
        write_keyring(path, {"b": NEW}, replace=False)
    assert read_keyring(path) == {"a": OLD}
    assert [entry.name for entry in path.parent.iterdir()] == ["ring"]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o601])
def test_a_keyring_that_others_may_touch_is_not_read(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "ring"
    write_keyring(path, {"a": OLD}, replace=False)
    path.chmod(mode)

    with pytest.raises(ConfigurationError, match=f"mode {mode:04o}"):
        read_keyring(path)


@pytest.mark.parametrize(("mode", "is_read"), [(0o440, True), (0o460, False), (0o444, False)])
def test_a_keyring_that_root_hands_out_is_read_as_its_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int, is_read: bool
) -> None:
    """Goal: a Secret of Kubernetes (fsGroup) and a credential of systemd are of use."""
    path = tmp_path / "keyring"
    write_keyring(path, {"a": OLD}, replace=False)
    path.chmod(mode)
    owner = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)

    if is_read:
        assert read_keyring(path) == {"a": OLD}
    else:
        with pytest.raises(ConfigurationError, match=f"mode {mode:04o}"):
            read_keyring(path)


def test_faults_of_a_keyring_file_are_named(tmp_path: Path) -> None:
    path = tmp_path / "ring"
    with pytest.raises(ConfigurationError, match="cannot read"):
        read_keyring(path)
    path.touch(0o600)
    with pytest.raises(ConfigurationError, match="holds no key"):
        read_keyring(path)
    path.write_bytes(b"\xff")
    with pytest.raises(ConfigurationError, match="not text"):
        read_keyring(path)


async def test_a_keyring_for_trying_out_is_made_once(tmp_path: Path) -> None:
    settings = from_env(
        {
            "PROCESSORS_ENCRYPTION_KEYRING_FILE": str(tmp_path / "ring"),
            "PROCESSORS_ENCRYPTION_KEYRING_CREATE": "1",
        }
    ).encryption
    async with open_keys(settings) as keys:
        key, wrapped = await keys.generate(CONTEXT)

    async with open_keys(settings) as keys:
        assert await keys.unwrap(wrapped, CONTEXT) == key


async def test_a_keyring_may_come_from_the_environment() -> None:
    settings = from_env({"PROCESSORS_ENCRYPTION_KEYRING": f"a={'A' * 43}= b={'B' * 43}="})

    async with open_keys(settings.encryption) as keys:
        assert await keys.primary() == "local:a"


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"KEYRING": "a=x", "KEYRING_FILE": "/x"}, "exclude each other"),
        ({"KEYRING_CREATE": "1"}, "needs keyring_file"),
        ({"PROVIDER": "kms"}, "needs kms_key"),
        ({"USES_BLOCK": "100", "EPOCH_USES_MAX": "10"}, "at most epoch_uses_max"),
        ({"EPOCH_USES_MAX": str(2**30 + 1)}, "EPOCH_USES_MAX"),
    ],
)
def test_settings_that_contradict_each_other_are_named(
    variables: dict[str, str], said: str
) -> None:
    with pytest.raises(ConfigurationError, match=said):
        from_env({f"PROCESSORS_ENCRYPTION_{name}": value for name, value in variables.items()})


async def test_a_keyring_in_the_environment_is_not_quoted() -> None:
    settings = from_env({"PROCESSORS_ENCRYPTION_KEYRING": "a=secret!"}).encryption
    with pytest.raises(ConfigurationError, match="KEYRING: line 1: key a is not base64") as error:
        await open_keys(settings).__aenter__()
    assert "secret" not in str(error.value)
