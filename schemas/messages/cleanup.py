"""``cleanup``: one job type with several actions; any may run at any time, several at once."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, TypeAlias
from uuid import UUID

import msgspec

DAYS_MAX = 36_500
"""A hundred years."""

Days = Annotated[int, msgspec.Meta(ge=1, le=DAYS_MAX)]
RowsMax = Annotated[
    int,
    msgspec.Meta(
        ge=1, le=1_000_000_000, description="Most rows that the job and those after it change."
    ),
]
Part = Annotated[
    int, msgspec.Meta(ge=1, le=1_000_000, description="Place in a chain of jobs; from 1.")
]
After = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^[0-9a-z:|-]{0,100}$", description="Where the job before it came to; from code."
    ),
]


class CleanupOldMessages(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    rename="camel",
    forbid_unknown_fields=True,
    tag_field="action",
    tag="cleanup_old_messages",
):
    """
    Remove messages that are older than their conversation's policy keeps them.

    Attributes:
        dry_run: Count what would be removed, by policy, and change nothing.
        conversation_id: This conversation alone.
        older_than_days: Stands in for the default policy; that of a conversation or a tenant and
            the legal bounds hold all the same.
        rows_max: Most messages that the job and those after it clear or remove.
        after: Where the job before it came to.
        part: Its place in a chain of jobs.
    """

    dry_run: bool = False
    conversation_id: UUID | None = None
    older_than_days: Days | None = None
    rows_max: RowsMax | None = None
    after: After = ""
    part: Part = 1


class CleanupDeletedConversations(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    rename="camel",
    forbid_unknown_fields=True,
    tag_field="action",
    tag="cleanup_deleted_conversations",
):
    """
    Remove conversations that were deleted some time ago, with all that belongs to them.

    Attributes:
        dry_run: Count what would be removed, and change nothing.
        conversation_id: This conversation alone.
        older_than_days: Deleted that long ago; as the settings say if left out.
        rows_max: Most messages that the job and those after it remove.
        part: Its place in a chain of jobs.
    """

    dry_run: bool = False
    conversation_id: UUID | None = None
    older_than_days: Days | None = None
    rows_max: RowsMax | None = None
    part: Part = 1


class CleanupExpiredAttachments(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    rename="camel",
    forbid_unknown_fields=True,
    tag_field="action",
    tag="cleanup_expired_attachments",
):
    """
    Remove uploads that no message claimed in time, and delete objects that nothing needs any more.

    Attributes:
        dry_run: Count what would be removed, and change nothing.
        rows_max: Most uploads and objects that the job and those after it remove.
        part: Its place in a chain of jobs.
    """

    dry_run: bool = False
    rows_max: RowsMax | None = None
    part: Part = 1


class ReconcileObjects(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    rename="camel",
    forbid_unknown_fields=True,
    tag_field="action",
    tag="reconcile_objects",
):
    """
    Compare the object store with the database: delete objects without a row, report the reverse.

    Attributes:
        dry_run: Report objects without a row in place of deleting them.
        older_than_hours: Objects younger than that are left alone; as the settings say if left out.
        force: Delete also where most objects seem to have no row, as with a wrong database.
        after: Where the job before it came to.
        part: Its place in a chain of jobs.
    """

    dry_run: bool = False
    older_than_hours: Annotated[int, msgspec.Meta(ge=1, le=24 * DAYS_MAX)] | None = None
    force: bool = False
    after: After = ""
    part: Part = 1


class Housekeeping(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    rename="camel",
    forbid_unknown_fields=True,
    tag_field="action",
    tag="housekeeping",
):
    """
    Prune what the back end keeps for itself, and put jobs anew that got lost on the way.

    Attributes:
        dry_run: Count what would be done, and change nothing.
        rows_max: Most rows that the job and those after it remove.
        part: Its place in a chain of jobs.
    """

    dry_run: bool = False
    rows_max: RowsMax | None = None
    part: Part = 1


Cleanup: TypeAlias = (
    CleanupOldMessages
    | CleanupDeletedConversations
    | CleanupExpiredAttachments
    | ReconcileObjects
    | Housekeeping
)


class PolicyCount(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """
    What one retention policy would remove.

    Attributes:
        policy: ``hold``, ``conversation``, ``tenant:<id>`` or ``default``.
        days: Days that it keeps messages, within the legal bounds; null for ever.
        before: Messages from before this instant go; null for none.
        conversations: Conversations under it.
        messages: Messages that would go.
    """

    policy: str
    days: int | None
    before: datetime | None
    conversations: int
    messages: int


class CleanupResult(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """
    Result of ``cleanup``.

    Attributes:
        action: What was asked for.
        complete: Nothing is left to do; false where a further job goes on, or a limit was met.
        dry_run: Nothing was changed.
        follow_up: The job that goes on.
        counts: Rows and objects by what was done with them.
        policies: For a dry run over old messages, what each policy would remove.
        samples: For findings that need somebody's eyes, up to 100 names each.
    """

    action: str
    complete: bool
    dry_run: bool = False
    follow_up: str | None = None
    counts: dict[str, int] = {}
    policies: tuple[PolicyCount, ...] = ()
    samples: dict[str, tuple[str, ...]] = {}
