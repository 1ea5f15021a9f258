"""Arithmetic on the number in a case id, such as `(id+1)//2`: a grammar of its own, nothing is ever executed.

sum     = product { ("+" | "-") product }
product = atom { ("*" | "//" | "%") atom }
atom    = whole number | "id" | "(" sum ")"
"""

from __future__ import annotations

import re

from autoseg.records.errors import DataError, UsageError

TOKEN = re.compile(r"\s*(\d{1,9}|id|//|[-+*%()])")
LONGEST = 100


def is_arithmetic(rule: str) -> bool:
    """Return whether a rule is written in this grammar's characters and speaks of `id`."""
    return bool(re.fullmatch(r"[\d\s+\-*/%()]*\bid\b[\d\s+\-*/%()id]*", rule))


def evaluate(rule: str, id: int) -> int:
    """Return what a rule makes of a number.

    Raises:
        UsageError: The rule breaks the grammar or divides by zero.
    """
    tokens = _tokens(rule)
    value, rest = _sum(tokens, id, rule)
    if rest:
        raise _wrong(rule, f"{rest[0]!r} is unexpected")
    return value


def number_in(case: str) -> int:
    """Return the last whole number in a case id.

    Raises:
        DataError: There is none.
    """
    numbers = re.findall(r"\d+", case)
    if not numbers:
        raise DataError(
            "the id holds no number to calculate with", case=case, fix="Give a table or a pattern.", code="no_number"
        )
    return int(numbers[-1])


def _tokens(rule: str) -> list[str]:
    tokens, position, text = [], 0, rule.rstrip()
    while position < len(text):
        found = TOKEN.match(text, position)
        if not found:
            raise _wrong(rule, f"{text[position:].strip()[:10]!r} is not understood")
        tokens.append(found[1])
        position = found.end()
    if len(tokens) > LONGEST:
        raise _wrong(rule, f"it has more than {LONGEST} parts")
    return tokens


def _sum(tokens: list[str], id: int, rule: str) -> tuple[int, list[str]]:
    value, rest = _product(tokens, id, rule)
    while rest and rest[0] in "+-":
        other, after = _product(rest[1:], id, rule)
        value, rest = (value + other if rest[0] == "+" else value - other), after
    return value, rest


def _product(tokens: list[str], id: int, rule: str) -> tuple[int, list[str]]:
    value, rest = _atom(tokens, id, rule)
    while rest and rest[0] in ("*", "//", "%"):
        sign = rest[0]
        other, rest = _atom(rest[1:], id, rule)
        if sign != "*" and other == 0:
            raise _wrong(rule, "it divides by zero")
        value = value * other if sign == "*" else value // other if sign == "//" else value % other
    return value, rest


def _atom(tokens: list[str], id: int, rule: str) -> tuple[int, list[str]]:
    if not tokens:
        raise _wrong(rule, "it ends too early")
    first, rest = tokens[0], tokens[1:]
    if first == "id":
        return id, rest
    if first.isdigit():
        return int(first), rest
    if first != "(":
        raise _wrong(rule, f"{first!r} is unexpected")
    value, rest = _sum(rest, id, rule)
    if not rest or rest[0] != ")":
        raise _wrong(rule, "a bracket is not closed")
    return value, rest[1:]


def _wrong(rule: str, why: str) -> UsageError:
    return UsageError(
        f"the rule {rule!r} cannot be calculated: {why}",
        fix="It may use id, whole numbers, + - * // % and brackets, such as (id+1)//2.",
        code="bad_rule",
    )
