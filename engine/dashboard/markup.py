"""HTML that escapes by default: only what this module built itself is taken as markup."""

from __future__ import annotations

from html import escape

from engine.logs import safe

_VOID = frozenset({"meta", "link"})


class Html(str):
    """Text that is markup already."""

    __slots__ = ()


Child = str | int | Html | None


def tag(element: str, /, *children: Child, **attributes: str | int | bool | None) -> Html:
    """
    Build one element.

    Args:
        element: Its name.
        children: Markup, or text, which is escaped.
        attributes: ``class_`` and ``aria_label`` become ``class`` and ``aria-label``; those
            that are None or False are left out.
    """
    parts = [f"<{element}"]
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        attribute = key.rstrip("_").replace("_", "-")
        parts.append(f" {attribute}" if value is True else f' {attribute}="{_text(value)}"')
    parts.append(">")
    if element not in _VOID:
        parts.extend(_text(child) for child in children if child is not None)
        parts.append(f"</{element}>")
    return Html("".join(parts))


def join(*children: Child) -> Html:
    """Put children side by side."""
    return Html("".join(_text(child) for child in children if child is not None))


def _text(value: str | int | Html) -> str:
    if isinstance(value, Html):
        return value
    # Marks that turn the direction of text would let a name disguise itself.
    return escape(safe(str(value)), quote=True)
