"""The base of every stored record: frozen, strict about its keys, the same bytes on every machine."""

from __future__ import annotations

import hashlib
import json
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, ValidationError, model_serializer

from autoseg.records.errors import DataError


class Record(BaseModel):
    """A frozen record that refuses unknown keys and is written as canonical JSON."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings", validate_default=True)

    def to_json(self) -> str:
        """Return indented JSON with keys in field order, the same bytes for equal records."""
        return self.model_dump_json(indent=1) + "\n"

    def digest(self) -> str:
        """Return the first 16 hexadecimal digits of the SHA-256 of the record's canonical JSON."""
        canonical = json.dumps(json.loads(self.model_dump_json()), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]

    @classmethod
    def parse(cls, text: str | bytes, *, file: str) -> Self:
        """Return the record written in `text`.

        Args:
            text: JSON.
            file: Where the text comes from, for the message.

        Raises:
            DataError: The text is no JSON or no record of this kind; every mistake is listed with its path.
        """
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise DataError(
                f"is not a valid {cls.__name__}: {describe(error)}",
                file=file,
                fix="Restore the file, or remove it so that autoseg writes it anew.",
            ) from None


class GrowingRecord(Record):
    """A record that got keys after it was first stored: `LATER` are written only where they differ from their default.

    So what was stored before keeps its digest, and with it its checkpoints and dry runs.
    """

    LATER: ClassVar[tuple[str, ...]] = ()

    @model_serializer(mode="wrap")
    def _without_later_defaults(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        content: dict[str, Any] = handler(self)
        fields = type(self).model_fields
        for name in self.LATER:
            if getattr(self, name) == fields[name].default:
                content.pop(name, None)
        return content


def describe(error: ValidationError) -> str:
    """Return every mistake that pydantic found, as `path: message`, in one line."""
    rows = []
    for item in error.errors(include_url=False):
        where = ".".join(str(part) for part in item["loc"]) or "file"
        rows.append(f"{where}: {item['msg'].lower()}")
    return "; ".join(rows)
