"""
Become a server: the last step before its program, in a process of its own.

Run as a script, with nothing but the standard library, by :func:`engine.embedded.process.command`.
It ties the server's life to its parent's and, for root, changes the user. It is no ``preexec_fn``
of subprocess, since that may hang in a program with threads.
"""

from __future__ import annotations

import ctypes
import os
import sys

PR_SET_PDEATHSIG = 1
PR_SET_KEEPCAPS = 8
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2
CAP_DAC_READ_SEARCH = 2
CAPABILITY_VERSION_3 = 0x20080522


def main(arguments: list[str]) -> None:
    """Take parent, signal, uid, gid and the server's command; -1 keeps the user."""
    parent, death_signal, uid, gid = (int(argument) for argument in arguments[:4])
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    if uid >= 0:
        change_user(uid, gid, libc)
    if libc is not None:
        # After the change of user, which clears it.
        libc.prctl(PR_SET_PDEATHSIG, death_signal, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit("the parent is gone")
    os.execv(arguments[4], arguments[4:])  # noqa: S606 - programs of our own wheels, no shell


def change_user(uid: int, gid: int, libc: ctypes.CDLL | None) -> None:
    """Become another user for good."""
    if libc is not None:
        libc.prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0)
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)
    if libc is not None:
        keep_search(libc)


def keep_search(libc: ctypes.CDLL) -> None:
    """
    Keep the right to pass through directories closed to others, and nothing else of root's.

    A checkout in root's home is closed to the user as which the server runs; opening the home to
    everyone would be worse. Where the right is not to be had, the server's own message says what
    it could not read.
    """
    bit = 1 << CAP_DAC_READ_SEARCH
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
    sets = (ctypes.c_uint32 * 6)(bit, bit, bit, 0, 0, 0)
    if libc.capset(header, sets) == 0:
        libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_DAC_READ_SEARCH, 0, 0)


if __name__ == "__main__":
    main(sys.argv[1:])
