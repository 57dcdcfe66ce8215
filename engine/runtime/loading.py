"""Finds the app that an engine is pointed at by ``module:object``."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

from engine.errors import EngineError, RegistryError
from engine.registry import App, Registry
from engine.settings import EngineSettings

_KINDS = "a Registry, an App, or a callable that takes the settings and returns one of these"


def load_app(settings: EngineSettings) -> App:
    """
    Load the app that the settings name; the current directory counts as installed.

    Raises:
        RegistryError: It cannot be found, fails to load, or is something else.
    """
    name = settings.app
    module_name, colon, path = name.partition(":")
    if not colon or not module_name or not path:
        raise RegistryError(f"app must be module:object, not {name!r}")
    found: Any = _module(module_name, name)
    for part in path.split("."):
        if not hasattr(found, part):
            raise RegistryError(f"app {name}: {module_name} has no {path}")
        found = getattr(found, part)
    if callable(found) and not isinstance(found, App | Registry):
        found = _built(name, found, settings)
    if isinstance(found, Registry):
        return App(found)
    if not isinstance(found, App):
        raise RegistryError(f"app {name} is a {type(found).__name__}; it must be {_KINDS}")
    return found


def _module(module_name: str, name: str) -> Any:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and f"{module_name}.".startswith(f"{error.name}."):
            raise RegistryError(f"app {name}: there is no module {error.name}") from None
        raise RegistryError(f"app {name}: {module_name} needs {error.name}") from error
    except EngineError as error:
        raise RegistryError(f"app {name}: {error}") from error
    except Exception as error:
        told = f"{type(error).__name__}: {error}"
        raise RegistryError(f"app {name}: {module_name} fails to load: {told}") from error


def _built(name: str, build: Any, settings: EngineSettings) -> Any:
    try:
        return build(settings)
    except Exception as error:
        told = str(error) or type(error).__name__
        if isinstance(error, TypeError | AttributeError | NameError | LookupError):
            # More likely a mistake in the code than a word to the operator.
            told = f"{type(error).__name__}: {told}"
        raise RegistryError(f"app {name} cannot be built: {told}") from error
