"""Settings from ``PROCESSORS_*``."""

from __future__ import annotations

import pytest

from processors.errors import ConfigurationError
from processors.settings import ProcessorSettings, from_env, sections


def test_defaults_hold_without_variables() -> None:
    assert from_env({"HOME": "/", "ENGINE_REDIS_URL": "x"}) == ProcessorSettings()


def test_variables_set_fields() -> None:
    assert from_env({"PROCESSORS_POOL_CONNECTIONS_MAX": "3"}).pool_connections_max == 3


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"PROCESSORS_POOL_CONNECTIONS_MAX": "0"}, "PROCESSORS_POOL_CONNECTIONS_MAX"),
        ({"PROCESSORS_POOL_WAIT_MS": "5s"}, "PROCESSORS_POOL_WAIT_MS"),
        ({"PROCESSORS_POOL_WAIT": "5"}, "unknown setting PROCESSORS_POOL_WAIT"),
        ({"PROCESSORS_LOCK_WAIT_MS_MAX": "20000"}, "at most statement_ms_max"),
        ({"PROCESSORS_OUTBOX_CLAIM_MS": "1000"}, "at least twice statement_ms_max"),
    ],
)
def test_faults_are_named(variables: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        from_env(variables)


@pytest.mark.parametrize("kind", [ProcessorSettings, *sections().values()])
def test_every_setting_is_described(kind: type) -> None:
    documented = kind.__doc__ or ""

    for field in kind.__struct_fields__:
        assert f"        {field}: " in documented
