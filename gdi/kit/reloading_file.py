"""An operator's file that is read again when it changes: a good change takes effect with the next look, a bad one is
logged and the last good state stays.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

T = TypeVar("T")
log = logging.getLogger(__name__)


class ReloadingFile(Generic[T]):
    """`parse` reads the file and raises `mistake`, whose text names file and place, where it is wrong. At first that is
    the caller's to handle.

    `what` names the content in the log; `problem` is what is wrong with the file as it is now, empty where it is in
    force.
    """

    def __init__(self, path: Path, parse: Callable[[Path], T], mistake: type[Exception], what: str) -> None:
        self.path, self.problem = path, ""
        self._parse, self._mistake, self._what = parse, mistake, what
        self._seen = self._stamp()
        self._current = parse(path)

    def look(self) -> T:
        """What is in force now."""
        stamp = self._stamp()
        if stamp != self._seen:
            self._seen = stamp
            try:
                self._current = self._parse(self.path)
                self.problem = ""
                log.info("%s read again from %s", self._what, self.path)
            except self._mistake as error:
                self.problem = str(error)
                log.error("the changed %s is not used, the one before stays in force: %s", self._what, error)
        return self._current

    def _stamp(self) -> tuple[int, int, int] | None:
        try:
            info = self.path.stat()
        except OSError:
            return None
        return info.st_mtime_ns, info.st_size, info.st_ino
