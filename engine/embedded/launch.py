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
PR_SET_SECUREBITS = 28
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2
SECBIT_NO_SETUID_FIXUP = 1 << 2
CAP_DAC_OVERRIDE = 1
CAP_DAC_READ_SEARCH = 2
CAPABILITY_VERSION_3 = 0x20080522


def main(arguments: list[str]) -> None:
    """Take parent, signal, uid, gid and the server's command; -1 keeps the user."""
    parent, death_signal, uid, gid = (int(argument) for argument in arguments[:4])
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    if uid >= 0:
        change_user(uid, gid, libc, program=arguments[4])
    if libc is not None:
        # After the change of user, which clears it.
        libc.prctl(PR_SET_PDEATHSIG, death_signal, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit("the parent is gone")
    os.execv(arguments[4], arguments[4:])  # noqa: S606 - programs of our own wheels, no shell


def change_user(uid: int, gid: int, libc: ctypes.CDLL | None, *, program: str) -> None:
    """Become another user for good."""
    # Asked while we may still look.
    closed = libc is not None and not (is_open_to_all(program) and is_open_to_all("."))
    if libc is not None and closed:
        # Rights are given up by hand below; else access(2), too, would act as if without them.
        libc.prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP, 0, 0, 0)
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)
    if libc is not None and closed:
        keep_passage(libc)


def is_open_to_all(path: str) -> bool:
    """Say whether every user may pass through the directories above a path."""
    above = os.path.dirname(os.path.realpath(path))  # noqa: PTH120 - small and quick to start
    while os.stat(above).st_mode & 0o001:  # noqa: PTH116
        if above == "/":
            return True
        above = os.path.dirname(above)  # noqa: PTH120
    return False


def keep_passage(libc: ctypes.CDLL) -> None:
    """
    Keep the right to pass through directories closed to others, and nothing else of root's.

    A checkout in root's home is closed to the user as which the server runs; opening the home to
    everyone would be worse. Containers often have the second right alone. Where none is to be
    had, the server's own message says what it could not read.
    """
    for right in (CAP_DAC_READ_SEARCH, CAP_DAC_OVERRIDE):
        if set_rights(libc, 1 << right):
            libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, right, 0, 0)
            return
    if not set_rights(libc, 0):
        sys.exit("root's rights could not be given up")


def set_rights(libc: ctypes.CDLL, rights: int) -> bool:
    """Make these the only rights of this process; False when it has not got them."""
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
    sets = (ctypes.c_uint32 * 6)(rights, rights, rights, 0, 0, 0)
    return bool(libc.capset(header, sets) == 0)


if __name__ == "__main__":
    main(sys.argv[1:])
