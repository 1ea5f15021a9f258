"""The one family of errors that a user sees: what was found, where, what was expected, what to do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

DONE, USAGE, BAD_DATA, SOME_FAILED, RESOURCES, INTERRUPTED = 0, 2, 3, 4, 5, 130


class UserError(Exception):
    """An error that the user can mend; the command line prints it as one line, without a traceback.

    Attributes:
        what: What was found and what was expected, a sentence without the place.
        case: The case it concerns, or None.
        file: The file it concerns, or None.
        fix: What to do, a sentence, or "".
        code: A short stable word for scripts, such as `truncated_file`.
        exit_code: What the process returns.
    """

    exit_code = BAD_DATA

    def __init__(self, what: str, *, case: str | None = None, file: object = None, fix: str = "", code: str = ""):
        super().__init__(what)
        self.what = what
        self.case = case
        self.file = None if file is None else str(file)
        self.fix = fix
        self.code = code or type(self).__name__

    def __str__(self) -> str:
        place = ": ".join(part for part in (self.case, self.file) if part)
        line = f"{place}: {self.what}" if place else self.what
        if not line.endswith((".", "!", "?")):
            line += "."
        return f"{line} {self.fix}".strip()

    def __reduce__(self) -> tuple[Any, ...]:
        # Worker processes send errors home; an exception with keyword-only arguments does not travel by itself.
        return _rebuild, (type(self), self.what, self.case, self.file, self.fix, self.code, self.__dict__.copy())

    def in_case(self, case: str) -> UserError:
        """Return this error with its case named, unless one is named already."""
        if self.case is None:
            self.case = case
        return self

    def as_json(self) -> dict[str, str | None]:
        """Return the fields as plain JSON."""
        return {"code": self.code, "case": self.case, "file": self.file, "what": self.what, "fix": self.fix}


class UsageError(UserError):
    """The words typed, or a preset, do not mean anything."""

    exit_code = USAGE


class DataError(UserError):
    """A file or a data set is not what it must be."""

    exit_code = BAD_DATA


class ResourceError(UserError):
    """Memory, disk, a device or a lock is missing."""

    exit_code = RESOURCES


class CasesFailed(UserError):
    """Some cases failed and the others were finished.

    Attributes:
        failures: Case id -> the error of that case.
    """

    exit_code = SOME_FAILED

    def __init__(self, what: str, failures: Mapping[str, UserError], *, fix: str = ""):
        super().__init__(what, fix=fix, code="cases_failed")
        self.failures = dict(failures)

    def __reduce__(self) -> tuple[Any, ...]:
        return CasesFailed, (self.what, self.failures)


def reason_of(error: BaseException) -> str:
    """Return the first line of what another library says went wrong, or the kind of its error where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _rebuild(kind: type, what: str, case: str, file: str, fix: str, code: str, state: dict[str, Any]) -> UserError:
    error: UserError = kind(what, case=case, file=file, fix=fix, code=code)
    error.__dict__.update(state)
    return error
