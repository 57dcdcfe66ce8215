"""
Reading any settings struct from a TOML file, the environment and the command line.

Every setting has a meaning, which is read from the struct's docstring, and a source; secrets are
masked wherever settings are shown.
"""

from __future__ import annotations

import difflib
import functools
import re
import tomllib
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit, urlunsplit

import msgspec

from engine.errors import SettingsError

VALUE_CHARS_MAX = 60
RESERVED = frozenset({"config", "fail", "parent"})
"""Variables of the prefix that are no settings."""

LINKS = re.compile(
    r"([a-z0-9_]+_)?(service_(host|port(_[a-z0-9_]+)?)|port_\d+_(tcp|udp|sctp)(_(proto|port|addr))?)"
)
LINK_PORT = re.compile(r"([a-z0-9_]+_)?port")
LINK_URL = re.compile(r"(tcp|udp|sctp)://")
"""What Kubernetes sets in each pod for a service whose name begins with ``engine``."""

Settings = TypeVar("Settings", bound=msgspec.Struct)


class Described(msgspec.Struct, frozen=True, kw_only=True):
    """
    One setting as it is shown.

    Attributes:
        name: Its name in the TOML file.
        variable: Its environment variable.
        value: Its value as text, secrets masked.
        source: ``default``, ``environment``, ``file`` or ``command line``.
        meaning: What it does.
    """

    name: str
    variable: str
    value: str
    source: str
    meaning: str


def load(
    kind: type[Settings],
    environ: Mapping[str, str],
    *,
    prefix: str,
    file: Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    see: str = "python -m engine settings",
) -> tuple[Settings, dict[str, str]]:
    """
    Build a settings struct from a TOML file, the environment and overrides, the last ones winning.

    Lists are written ``a,b``, tables ``a=1,b=2``; ``see`` is the command that lists settings.
    Returns the settings and the source of each that is not a default.

    Raises:
        SettingsError: Something is unknown, cannot be read, or fails its check.
    """
    fields = field_types(kind)
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for source, found in (
        ("file", _from_file(file)),
        ("environment", _from_environ(environ, prefix, fields)),
        ("command line", dict(overrides or {})),
    ):
        for name, value in found.items():
            if name not in fields:
                raise SettingsError(_unknown(name, source, fields, prefix, see))
            values[name] = _folded(value, fields[name])
            sources[name] = source
    try:
        return msgspec.convert(values, kind, strict=False), sources
    except msgspec.ValidationError as error:
        raise SettingsError(_explain(str(error), kind, values, sources, prefix)) from None


@functools.cache
def field_types(kind: type[msgspec.Struct]) -> Mapping[str, Any]:
    """Return the fields of a settings struct; looked up once, as annotations are slow to read."""
    return {field.name: field.type for field in msgspec.structs.fields(kind)}


def _folded(value: Any, annotation: Any) -> Any:
    """Bring a word that is one of several choices to their case."""
    if typing.get_origin(annotation) is typing.Literal and isinstance(value, str):
        return value.strip().lower()
    return value


def describe(settings: msgspec.Struct, sources: Mapping[str, str], prefix: str) -> list[Described]:
    """List settings with meaning, value and source; secrets are masked."""
    meanings = _meanings(type(settings))
    rows = []
    for field in msgspec.structs.fields(type(settings)):
        meaning, secret = meanings.get(field.name, ("", False))
        value = getattr(settings, field.name)
        rows.append(
            Described(
                name=field.name,
                variable=prefix + field.name.upper(),
                value=_masked(value) if secret else _as_text(value),
                source=sources.get(field.name, "default"),
                meaning=meaning,
            )
        )
    return rows


def _masked(value: Any) -> str:
    if isinstance(value, dict):
        return ",".join(f"{name}=***" for name in value)
    return mask(str(value))


def mask(value: str) -> str:
    """Hide a secret, or the password within a URL."""
    if not value:
        return ""
    try:
        parts = urlsplit(value)
        password = parts.password
    except ValueError:
        return "***"
    if not parts.scheme or not (parts.netloc or parts.path) or "password" in parts.query:
        return "***"
    if password is None:
        return value
    user = parts.username or ""
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{user}:***@{host}"))


def _from_file(file: Path | None) -> dict[str, Any]:
    if file is None:
        return {}
    try:
        return tomllib.loads(file.read_text())
    except OSError as error:
        raise SettingsError(f"cannot read {file}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{file} is not TOML: {error}") from None


def _from_environ(
    environ: Mapping[str, str], prefix: str, fields: Mapping[str, Any]
) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for variable, text in environ.items():
        name = variable.removeprefix(prefix).lower()
        if not variable.startswith(prefix) or name in RESERVED or _is_link(name, text):
            continue
        base = name.removesuffix("_file")
        if name not in fields and base in fields and name != base:
            # A secret kept in a file, as container platforms hand them out.
            found.setdefault(base, _secret_file(variable, text, fields[base]))
        else:
            found[name] = _parse(variable, text, fields.get(name))
    return found


def _is_link(name: str, text: str) -> bool:
    """Tell whether Kubernetes set a variable; a port's own value is a URL, unlike a mistake's."""
    port = LINK_PORT.fullmatch(name) and LINK_URL.match(text)
    return bool(port or LINKS.fullmatch(name))


def _secret_file(variable: str, path: str, annotation: Any) -> Any:
    try:
        text = Path(path).read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{variable}: cannot read {path}: {error}") from None
    if typing.get_origin(annotation) in {tuple, dict}:
        # In a file each may stand on a line of its own, and lines may be notes.
        lines = [line.strip() for line in text.splitlines()]
        text = ",".join(line for line in lines if line and not line.startswith("#"))
    return _parse(variable, text, annotation)


def _parse(variable: str, text: str, annotation: Any) -> Any:
    origin = typing.get_origin(annotation)
    if origin is tuple:
        return [part.strip() for part in text.split(",") if part.strip()]
    if origin is dict:
        pairs = [part.partition("=") for part in text.split(",") if part.strip()]
        if any(not separator for _, separator, _ in pairs):
            kind = "number" if _holds_numbers(annotation) else "value"
            raise SettingsError(f"{variable} must be written name={kind},name={kind}")
        named = [(name.strip(), value.strip()) for name, _, value in pairs]
        twice = {name for name, _ in named if [each for each, _ in named].count(name) > 1}
        if twice:
            raise SettingsError(f"{variable} names {', '.join(sorted(twice))} more than once")
        return dict(named)
    return text


def _holds_numbers(annotation: Any) -> bool:
    held = typing.get_args(annotation)[1]
    return (typing.get_args(held) or (held,))[0] is not str


def _unknown(name: str, source: str, fields: Mapping[str, Any], prefix: str, see: str) -> str:
    shown = prefix + name.upper() if source == "environment" else name
    close = difflib.get_close_matches(name, fields, 1)
    nearest = (prefix + close[0].upper() if source == "environment" else close[0]) if close else ""
    hint = f"; did you mean {nearest}?" if nearest else f"; see `{see}`"
    return f"unknown setting {shown} ({source}){hint}"


def _explain(
    message: str,
    kind: type[msgspec.Struct],
    values: Mapping[str, Any],
    sources: Mapping[str, str],
    prefix: str,
) -> str:
    detail, _, where = message.partition(" - at `$.")
    name = where.rstrip("`").split(".")[0].split("[")[0]
    if not name:
        return f"settings do not fit together: {message}"
    shown = prefix + name.upper() if sources.get(name) == "environment" else name
    choices = field_types(kind).get(name)
    if typing.get_origin(choices) is typing.Literal:
        detail = f"Expected one of {', '.join(typing.get_args(choices))}"
    _, is_secret = _meanings(kind).get(name, ("", True))
    given = "" if is_secret else f", not {_as_text(values.get(name))[:VALUE_CHARS_MAX]!r}"
    return f"setting {shown}: {detail[0].lower()}{detail[1:]}{given}"


def _meanings(kind: type[msgspec.Struct]) -> dict[str, tuple[str, bool]]:
    """Read each setting's meaning from the class docstring, so that it stands once."""
    meanings: dict[str, tuple[str, bool]] = {}
    name = ""
    for line in (kind.__doc__ or "").partition("Attributes:")[2].splitlines():
        head, colon, rest = line.strip().partition(": ")
        if colon and head in kind.__struct_fields__:
            name = head
            meanings[name] = (rest, False)
        elif name and line.strip():
            meanings[name] = (f"{meanings[name][0]} {line.strip()}", False)
    secret = {name: "secret]" in text for name, (text, _) in meanings.items()}
    return {name: (text.partition(" [")[0], secret[name]) for name, (text, _) in meanings.items()}


def _as_text(value: Any) -> str:
    if isinstance(value, dict):
        return ",".join(f"{name}={number}" for name, number in value.items())
    if isinstance(value, tuple | list):
        return ",".join(map(str, value))
    return "" if isinstance(value, types.NoneType) else str(value)
