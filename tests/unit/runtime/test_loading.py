"""Finding the app by its name."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from engine.errors import RegistryError
from engine.registry import App, Registry
from engine.runtime.loading import load_app
from engine.settings import EngineSettings

MODULE = """
from engine import App, Registry

class Nested:
    registry = Registry()

registry = Registry()
app = App(registry)
wrong = 7

def build(settings):
    assert settings.concurrency == 100
    return app

def registers(settings):
    return registry

def returns_nothing(settings):
    return None

def is_mistaken(settings):
    return settings.no_such_thing

def refuses(settings):
    raise ValueError("set the key")
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put modules into the current directory, under names that no other test uses."""
    (tmp_path / "loadme.py").write_text(MODULE)
    (tmp_path / "needy.py").write_text("import no_such_package\n")
    (tmp_path / "shattered.py").write_text("1 / 0\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", ["", *sys.path])
    for name in ("loadme", "needy", "shattered"):
        monkeypatch.delitem(sys.modules, name, raising=False)


@pytest.mark.parametrize("name", ["app", "build", "registry", "registers", "Nested.registry"])
def test_an_app_a_registry_or_what_builds_one_is_loaded(name: str) -> None:
    app = load_app(EngineSettings(app=f"loadme:{name}"))

    assert isinstance(app, App)
    assert isinstance(app.registry, Registry)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("loadme", "must be module:object"),
        (":app", "must be module:object"),
        ("loadme:", "must be module:object"),
        ("loadme:nope", "app loadme:nope: loadme has no nope"),
        ("loadme:wrong", "is a int; it must be a Registry"),
        ("loadme:returns_nothing", "is a NoneType"),
        ("loadme:refuses", "cannot be built: set the key"),
        ("loadme:is_mistaken", "cannot be built: AttributeError: "),
        ("absent:app", "there is no module absent"),
        ("absent.part:app", "there is no module absent"),
        ("loadme.part:app", "there is no module loadme.part"),
        ("needy:app", "needy needs no_such_package"),
        ("shattered:app", "shattered fails to load: ZeroDivisionError: division by zero"),
    ],
)
def test_what_cannot_be_loaded_is_told_clearly(name: str, told: str) -> None:
    with pytest.raises(RegistryError) as caught:
        load_app(EngineSettings(app=name))

    assert told in str(caught.value)
