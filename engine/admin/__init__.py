"""The operator's verbs: what the command line and the web page look at and do."""

from __future__ import annotations

from engine.admin.actions import job_actions
from engine.admin.dead_groups import GroupQuery
from engine.admin.verbs import Admin
from engine.core.limits import make_rule
from engine.store.operator import Budget, Query, Sealed
from engine.store.schedules import new_schedule

__all__ = [
    "Admin",
    "Budget",
    "GroupQuery",
    "Query",
    "Sealed",
    "job_actions",
    "make_rule",
    "new_schedule",
]
