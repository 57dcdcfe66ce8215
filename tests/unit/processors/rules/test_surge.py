"""One bad address, and a set-up under which all are."""

from __future__ import annotations

from uuid import UUID, uuid4

from processors.rules.surge import GROUPS_MAX, Surge


def test_different_targets_in_a_row_are_a_surge() -> None:
    surge = Surge(3)

    assert [surge.refused("app", uuid4()) for _ in range(4)] == [False, False, True, True]


def test_one_target_is_none_however_often_it_is_tried() -> None:
    surge = Surge(3)

    assert not any(surge.refused("app", UUID(int=1)) for _ in range(50))


def test_one_accepted_target_shows_that_the_set_up_is_well() -> None:
    surge = Surge(2)
    surge.refused("app", uuid4())
    assert surge.refused("app", uuid4())

    surge.accepted("app")

    assert not surge.refused("app", uuid4())


def test_groups_are_told_apart() -> None:
    surge = Surge(2)
    surge.refused("one", uuid4())
    surge.accepted("two")

    assert not surge.refused("two", uuid4())
    assert surge.refused("one", uuid4())


def test_the_group_that_was_quiet_for_longest_is_forgotten() -> None:
    surge = Surge(2)
    surge.refused("first", uuid4())
    for number in range(GROUPS_MAX):
        surge.refused(f"g{number}", uuid4())

    assert not surge.refused("first", uuid4())
    assert surge.refused(f"g{GROUPS_MAX - 1}", uuid4())
