"""Who belongs together: groups that were given, and groups guessed from names and images.

Scans of one person that are split over folds make every score too good, and the ids often hide them.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from autoseg.records.dataset import Case
from autoseg.records.errors import DataError, UsageError
from autoseg.stages.importing.arithmetic import evaluate, is_arithmetic, number_in
from autoseg.stages.importing.descriptions import read_json
from autoseg.stages.importing.draft import Grouping
from autoseg.stages.importing.listing import enumerate_cases
from autoseg.stages.importing.siblings import ScanFacts, guess_from_images

PERSON = r"(?:patient|pat|subject|subj|sub|person|case|volunteer|p)[-_]?[A-Za-z]*\d*[A-Za-z]?"
VISIT = (
    r"(?:(?:day|visit|session|ses|scan|timepoint|time|tp|frame|phase|slice|run|echo|week|month|fu)[-_]?(?:\d+|[A-Za-z])"
    r"|t\d+)(?:[-_.].*)?"
)
NAMED = (
    re.compile(rf"(.*?\b{PERSON})[-_.](?:{VISIT})", re.IGNORECASE),
    re.compile(r"(.*?(?:patient|pat|subject|subj|sub)[-_]?\d+)[-_.].+", re.IGNORECASE),
    re.compile(rf"(.+?)[-_.](?:{VISIT})", re.IGNORECASE),
    re.compile(r"(.+?)[-_.](?:left|right|lt|rt|l|r)", re.IGNORECASE),
)
COUNTED = re.compile(r"(.*\d.*)[-_.]\d+")
FEWEST_COUNTED = 5  # fewer prefixes than this are sites or batches rather than people


def given_groups(rule: str, cases: Sequence[Case]) -> Grouping:
    """Return the groups that a rule makes: arithmetic, the path of a table, or a regular expression.

    Raises:
        UsageError: The rule is none of the three.
        DataError: It does not reach every case; those it misses are listed.
    """
    ids = [case.id for case in cases]
    if is_arithmetic(rule):
        return Grouping({id: str(evaluate(rule, number_in(id))) for id in ids}, f"Group = {rule}, as given.", 1.0)
    if rule.lower().endswith((".csv", ".json")):
        return Grouping(_from_table(Path(rule), ids), f"Groups from the table {Path(rule).name}, as given.", 1.0)
    return Grouping(_from_pattern(rule, ids), f"Group = what {rule!r} finds in the id, as given.", 1.0)


def guess_siblings(cases: Sequence[Case], facts: Mapping[str, ScanFacts]) -> Grouping:
    """Return the groups that names and images suggest; every case by itself when neither does.

    Args:
        cases: All cases.
        facts: Data type and intensities of some or all of them (`siblings.measure_scans`).
    """
    ids = [case.id for case in cases]
    return (
        guess_from_names(ids)
        or guess_from_images(ids, facts)
        or Grouping(
            {id: id for id in ids},
            f"Every case is taken for another patient: neither names nor the intensities of {len(facts)} scans show "
            "siblings. If some belong together, say so with --groups.",
            0.0,
        )
    )


def guess_from_names(ids: Sequence[str]) -> Grouping | None:
    """Return groups by the part of the id that names a person, where that part comes more than once."""
    for pattern in NAMED:
        groups = _prefixes(pattern, ids)
        if _shared(groups) and sum(id != group for id, group in groups.items()) >= 0.5 * len(ids):
            return Grouping(groups, _words(groups, "as the names suggest"), 0.9)
    groups = _prefixes(COUNTED, ids)
    enough = FEWEST_COUNTED <= len(set(groups.values())) < len(ids)
    if enough and all(id != group for id, group in groups.items()):
        return Grouping(groups, _words(groups, "taking the last number of a name for a scan of one person"), 0.6)
    return None


def _prefixes(pattern: re.Pattern[str], ids: Sequence[str]) -> dict[str, str]:
    found = {id: pattern.fullmatch(id) for id in ids}
    return {id: match[1] if match else id for id, match in found.items()}


def _shared(groups: Mapping[str, str]) -> bool:
    """Whether some group has two cases and there is more than one group."""
    counts = Counter(groups.values())
    return len(counts) > 1 and max(counts.values()) > 1


def _words(groups: Mapping[str, str], why: str) -> str:
    group, count = Counter(groups.values()).most_common(1)[0]
    example = enumerate_cases([id for id in groups if groups[id] == group], most=3)
    return (
        f"Guessed: {len(groups)} cases are {len(set(groups.values()))} patients, {why}; "
        f"for example {example} are {group} ({count} cases). Confirm, or say otherwise with --groups."
    )


def _from_pattern(rule: str, ids: Sequence[str]) -> dict[str, str]:
    try:
        pattern = re.compile(rule)
    except re.error as error:
        raise UsageError(
            f"the pattern {rule!r} is no regular expression: {error}",
            fix=r"Give one such as (\d+)_day, a CSV or JSON table, or (id+1)//2.",
            code="bad_rule",
        ) from None
    if pattern.groups != 1:
        raise UsageError(
            f"the pattern {rule!r} has {pattern.groups} groups instead of one",
            fix=r"Put the part of the id that names the patient, and only it, in brackets, such as (\d+)_day.",
            code="bad_rule",
        )
    found = {id: pattern.search(id) for id in ids}
    _refuse_missing([id for id, match in found.items() if not match or not match[1]], ids, f"the pattern {rule!r}")
    return {id: match[1] for id, match in found.items() if match}


def _from_table(path: Path, ids: Sequence[str]) -> dict[str, str]:
    table = _read_json_table(path) if path.suffix.lower() == ".json" else _read_csv_table(path)
    _refuse_missing([id for id in ids if not table.get(id)], ids, str(path))
    return {id: table[id] for id in ids}


def _read_json_table(path: Path) -> dict[str, str]:
    table = read_json(path)
    if not isinstance(table, dict) or not all(isinstance(value, str | int) for value in table.values()):
        raise DataError('is no table {"case": "group"}', file=path, fix="Write one entry a case.", code="bad_table")
    return {case: str(group) for case, group in table.items()}


def _read_csv_table(path: Path) -> dict[str, str]:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot be read: {error}", file=path, fix="Give a UTF-8 table.", code="bad_table") from None
    rows = [[cell.strip() for cell in row] for row in csv.reader(io.StringIO(text)) if any(row)]
    header = [cell.lower() for cell in rows[0]] if rows else []
    named = "case" in header and "group" in header
    first, second = (header.index("case"), header.index("group")) if named else (0, 1)
    table = {}
    for number, row in enumerate(rows, start=1):
        if len(row) <= max(first, second):
            raise DataError(
                f"row {number} has {len(row)} cells", file=path, fix="Each row is case,group.", code="bad_table"
            )
        if number > 1 or not named:
            table[row[first]] = row[second]
    return table


def _refuse_missing(missing: Sequence[str], ids: Sequence[str], what: str) -> None:
    if missing:
        raise DataError(
            f"{what} gives no group for {len(missing)} of {len(ids)} cases: {enumerate_cases(missing)}",
            fix="Every case needs a group.",
            code="no_group",
        )
