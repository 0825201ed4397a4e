"""One process at a time writes a folder: two would mix their files.

The lock is a file that names process and host, and that its owner touches now and then. It needs
no locking from the file system, so it works on a shared one.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from luffy_pl.errors import StorageError, tell
from luffy_pl.process.alive import container, is_zombie

if TYPE_CHECKING:
    from filelock import LeaseCompromise, SoftFileLease

log = logging.getLogger(__name__)

SILENT_S = 30.0
"""Seconds without a sign of life after which the owner on another host counts as gone."""
POLL_S = 0.5


@contextmanager
def alone(folder: Path, name: str) -> Iterator[None]:
    """Hold `folder/.NAME.lock` for as long as the block runs.

    The lock of a process that was killed is free at once on the same host, and on another host when
    it was not touched for `SILENT_S`.

    Raises:
        StorageError: another process holds it.
    """
    # Only commands that write a folder pay for the import.
    from filelock import LeaseSettingsMismatch, SoftFileLease, Timeout

    is_new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    lease = SoftFileLease(
        folder / f".{name}.lock", lease_duration=SILENT_S, on_compromise=_lost, thread_local=False
    )
    try:
        _acquire(lease)
    except (Timeout, LeaseSettingsMismatch):
        raise _in_use(folder, lease) from None
    try:
        yield
    finally:
        lease.release()
        if is_new:
            with suppress(OSError):  # it is not empty
                folder.rmdir()


def check_not_in_use(folder: Path, name: str) -> None:
    """Refuse a folder that another process holds, without taking or changing anything.

    Raises:
        StorageError: a process of this host, which lives, holds it.
    """
    from filelock import SoftFileLease

    lease = SoftFileLease(folder / f".{name}.lock", lease_duration=SILENT_S, thread_local=False)
    owner = lease.owner if folder.exists() else None
    if owner is not None and _is_here(owner.hostname) and not is_zombie(owner.pid):
        raise _in_use(folder, lease)


def _in_use(folder: Path, lease: SoftFileLease) -> StorageError:
    return StorageError(
        str(folder),
        "is in use by another luffy-pl",
        value=_owner(lease),
        fix="wait until that process ends, end it, or name another folder",
    )


def _acquire(lease: SoftFileLease) -> None:
    """Take the lock; wait only for a process on another host, which may be gone."""
    from filelock import Timeout

    try:
        lease.acquire(timeout=0)
        return
    except Timeout:
        owner = lease.owner
        if owner is not None and _is_here(owner.hostname):
            if not is_zombie(owner.pid):
                raise
            lease.force_break()
    path = Path(lease.lock_file)
    seen = _touched(path)
    if seen is not None:
        log.info(
            "%s is locked by %s, and is taken over if no sign of life comes within %.0f s",
            path.parent,
            _owner(lease),
            SILENT_S,
        )
    lease.acquire(
        timeout=2 * SILENT_S, poll_interval=POLL_S, cancel_check=lambda: _touched(path) != seen
    )


def _touched(path: Path) -> float | None:
    """When the owner last showed that it lives; None while the file is not there."""
    with suppress(OSError):
        return path.stat().st_mtime
    return None


def _is_here(hostname: str) -> bool:
    """Whether the owner's number can be looked up: the same host, and the same container."""
    host, _, inner = hostname.partition("?pidns-")
    return (host, inner) == (socket.gethostname(), container())


def _owner(lease: SoftFileLease) -> str | None:
    owner = lease.owner
    return owner and f"process {owner.pid} on {owner.hostname.partition('?')[0]}"


def _lost(how: LeaseCompromise) -> None:
    """Runs in the thread that touches the file: another process may own the folder now."""
    folder = Path(how.lock_file).parent
    if how.reason != "owner-changed":
        log.warning("%s: its lock is lost (%s); start no second run there", folder, how.reason)
        return
    error = StorageError(
        str(folder),
        f"another process took it over, for this one stood still for {SILENT_S:.0f} s",
        fix="let that process go on",
    )
    tell(error)
    os._exit(error.exit_code)
