"""What may be done with a job in its present state, and what not, and why not. Pure."""

from __future__ import annotations

from schemas.looks import JobAction, Verb
from schemas.story import JobStory

LABELS: dict[Verb, str] = {
    "run-now": "Run now",
    "retry": "Retry",
    "edit-retry": "Edit and retry",
    "reschedule": "Reschedule",
    "priority": "Change lane",
    "cancel": "Cancel",
    "discard": "Discard",
}

_NOT_DEAD = "only dead jobs are {done}"
_ENDED = {"done": "it has run", "dead": "it is dead: retry it, or discard it"}
_RUN_NOW = {
    **_ENDED,
    "waiting": "it waits in its lane already; another lane may be faster",
    "active": "it runs already",
    "waiting-children": "it waits for its children",
    "held": "its type is held: release the type",
}
_MOVE = {
    **_ENDED,
    "active": "it runs: cancel it instead",
    "waiting-children": "it waits for its children",
}


def job_actions(story: JobStory) -> list[JobAction]:
    """List every verb, with whether it is possible now."""
    return [
        JobAction(verb=verb, label=label, able=not why, why=why)
        for verb, label in LABELS.items()
        for why in [_why_not(verb, story)]
    ]


def _why_not(verb: Verb, story: JobStory) -> str:
    state = story.job.state
    if story.cancelled is not None:
        return "it is cancelled and about to end"
    match verb:
        case "run-now":
            return (
                f"it is parked {story.job.note}" if state == "parked" else _RUN_NOW.get(state, "")
            )
        case "reschedule" | "priority":
            return _MOVE.get(state, "")
        case "cancel":
            return _ENDED.get(state, "")
        case "discard":
            return "" if state == "dead" else _NOT_DEAD.format(done="discarded")
    if state != "dead":
        return _NOT_DEAD.format(done="retried")
    return story.dead.unable if story.dead is not None else "no engine wrote this entry"
