"""A tree of new jobs → the field ``children`` of its root."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from engine.errors import JobRefused
from schemas.rules import CHILDREN_DEPTH_MAX, CHILDREN_MAX

if TYPE_CHECKING:
    from engine.client.jobs import NewJob


class TreeWriter:
    """
    Writes the field ``children``.

    Args:
        fields_of: Builds and judges the fields of one job, without its children.
        queue_of: Names its queue.
    """

    def __init__(
        self, fields_of: Callable[[NewJob], list[bytes]], queue_of: Callable[[NewJob], str]
    ) -> None:
        self._fields_of = fields_of
        self._queue_of = queue_of
        self._count = 0

    def write(self, children: Sequence[NewJob]) -> bytes:
        """
        Return the field of a job with these children.

        Raises:
            JobRefused: One of them breaks a rule; the path says which.
        """
        return msgspec.json.encode(self._level(children, "$", 1))

    def _level(self, children: Sequence[NewJob], path: str, depth: int) -> list[dict[str, Any]]:
        self._count += len(children)
        if depth > CHILDREN_DEPTH_MAX:
            raise JobRefused("children-depth", path=path, detail=f"deeper than {depth - 1}")
        if self._count > CHILDREN_MAX:
            raise JobRefused("children-too-many", detail=f"over {CHILDREN_MAX}")
        return [
            self._spec(child, f"{path}[{number}]", depth) for number, child in enumerate(children)
        ]

    def _spec(self, child: NewJob, path: str, depth: int) -> dict[str, Any]:
        try:
            fields = self._fields_of(child)
            spec: dict[str, Any] = {"queue": self._queue_of(child), "lane": child.lane}
        except JobRefused as error:
            detail = f"{error.detail} at {error.path}" if error.path else error.detail
            raise JobRefused(f"child-{error.rule}", path=path, detail=detail) from None
        for name, value in zip(fields[::2], fields[1::2], strict=True):
            member = name.decode()
            if member in spec or member == "onFailure":
                detail = f"a header is called {member}, which means something else here"
                raise JobRefused("child-header-name", path=path, detail=detail)
            spec[member] = msgspec.Raw(value) if member == "data" else value.decode()
        spec["onFailure"] = child.on_failure
        if child.children is not None:
            spec["children"] = self._level(child.children, f"{path}.children", depth + 1)
        if child.results:
            spec["results"] = True
        return spec
