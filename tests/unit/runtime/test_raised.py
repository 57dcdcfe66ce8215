"""What is kept of an exception."""

from __future__ import annotations

from types import ModuleType

from engine.runtime import raised
from engine.runtime.raised import FRAMES_MAX, REMEMBERED_MAX, error_record
from schemas.job import ErrorRecord


class Boom(Exception):
    """A failure with a class of its own."""


def record(error: Exception, *, full: bool = False) -> ErrorRecord:
    """Raise an exception below a frame that stands for the worker's, and shorten it."""
    try:
        fail(error)
    except Exception as caught:  # noqa: BLE001 - whatever was given
        return error_record(caught, full=full)
    raise AssertionError("nothing was raised")


def fail(error: Exception, depth: int = 0) -> None:
    if depth:
        fail(error, depth - 1)
    raise error


def test_an_error_is_told_with_its_class_text_and_frames() -> None:
    told = record(Boom("no"))

    assert told.kind == f"{__name__}.Boom"
    assert told.message == "no"
    assert told.traceback == f"{__file__}:{fail.__code__.co_firstlineno + 3} in fail"


def test_builtin_errors_have_short_names() -> None:
    assert record(ValueError("no")).kind == "ValueError"


def test_two_places_in_one_function_are_told_apart() -> None:
    def either(first: bool) -> None:
        if first:
            raise Boom
        raise Boom

    def told(first: bool) -> str:
        try:
            either(first)
        except Boom as error:
            return error_record(error, full=False).traceback
        return ""

    line = either.__code__.co_firstlineno
    assert [told(True), told(False), told(True)] == [
        f"{__file__}:{line + at} in either" for at in (2, 3, 2)
    ]


def test_two_classes_of_one_name_are_told_apart() -> None:
    kinds = [type("Odd", (Exception,), {"__module__": module}) for module in ("a", "b")]

    assert [record(kind()).kind for kind in (*kinds, *kinds)] == ["a.Odd", "b.Odd"] * 2


def test_of_a_deep_fall_the_innermost_frames_are_kept() -> None:
    def recursing() -> None:
        fail(Boom(), depth=50)

    try:
        recursing()
    except Boom as error:
        told = error_record(error, full=False).traceback

    assert told.count("in fail") == told.count("\n") + 1 == FRAMES_MAX


def test_handlers_that_make_code_and_classes_without_end_fill_no_memory() -> None:
    for number in range(2 * REMEMBERED_MAX):
        module = ModuleType("made")
        text = f"class Made{number}(Exception): pass\ndef fail(): raise Made{number}"
        exec(compile(text, f"made-{number}", "exec"), module.__dict__)
        try:
            module.fail()
        except Exception as error:  # noqa: BLE001 - its class is made above
            told = error_record(error, full=False)
        assert told.kind.endswith(f"Made{number}")
        assert told.traceback == f"made-{number}:2 in fail"

    assert len(raised._names) <= REMEMBERED_MAX
    assert len(raised._frames) <= REMEMBERED_MAX


def test_what_cannot_be_stored_is_replaced() -> None:
    assert record(Boom("\ud800")).message == "?"
