"""Suites of expectations as files: what is asked of documents and chunks, and what a failure does.

Knows the files and their mistakes; what an expectation means is Great Expectations' to say, which is
not loaded here. A suite is Headwater's own file and, where there is one, the installation's.
"""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from headwater.errors import HeadwaterError
from headwater.records import digest_of

Name = Literal["documents", "chunks"]
#: The columns that an expectation may name.
COLUMNS: dict[Name, tuple[str, ...]] = {
    "documents": (
        "uri", "source", "shard", "title", "language", "licence", "input_digest", "digest",
        "characters", "words", "headings", "unreadable_share",
    ),
    "chunks": (
        "id", "uri", "source", "ordinal", "start", "end", "text", "tokens", "embed_digest", "digest",
        "document_exists", "gap_before",
    ),
}  # fmt: skip
#: Arguments of expectations that are names of columns.
_NAMING = ("column", "column_A", "column_B")
#: Expectations that judge each row by itself, so that parts of a table answer for all of it. Those
#: that compare rows, or look at the type of a whole column, are not among them.
OF_ONE_ROW = frozenset(
    {
        "ExpectColumnPairValuesAToBeGreaterThanB", "ExpectColumnPairValuesToBeEqual",
        "ExpectColumnPairValuesToBeInSet", "ExpectColumnValueLengthsToBeBetween",
        "ExpectColumnValueLengthsToEqual", "ExpectColumnValuesToBeBetween",
        "ExpectColumnValuesToBeDateutilParseable", "ExpectColumnValuesToBeInSet",
        "ExpectColumnValuesToBeJsonParseable", "ExpectColumnValuesToBeNull",
        "ExpectColumnValuesToMatchJsonSchema", "ExpectColumnValuesToMatchLikePattern",
        "ExpectColumnValuesToMatchLikePatternList", "ExpectColumnValuesToMatchRegex",
        "ExpectColumnValuesToMatchRegexList", "ExpectColumnValuesToMatchStrftimeFormat",
        "ExpectColumnValuesToNotBeInSet", "ExpectColumnValuesToNotBeNull",
        "ExpectColumnValuesToNotMatchLikePattern", "ExpectColumnValuesToNotMatchLikePatternList",
        "ExpectColumnValuesToNotMatchRegex", "ExpectColumnValuesToNotMatchRegexList",
        "ExpectMulticolumnSumToEqual", "ExpectMulticolumnValuesToBeEqual",
        "ExpectSelectColumnValuesToBeUniqueWithinRecord",
    }
)  # fmt: skip
_UNIQUE, _COUNTING = "ExpectColumnValuesToBeUnique", "ExpectTableRowCount"
#: Arguments that Great Expectations has and a file does not set.
_RESERVED = {"severity", "id", "meta", "notes", "rendered_content", "windows", "batch_id"}


class Expectation(BaseModel):
    """One entry of a file; fields beside these are arguments of the expectation."""

    model_config = ConfigDict(frozen=True, extra="allow")

    expect: str = Field(pattern=r"^Expect[A-Z]\w+$")
    on_failure: Literal["block", "warn", "quarantine"] = "block"
    sources: tuple[str, ...] = Field(default=(), description="Of these alone; empty is all.")

    @model_validator(mode="after")
    def _spoken_here(self) -> "Expectation":
        if reserved := _RESERVED & set(self.arguments):
            raise ValueError(f"{', '.join(sorted(reserved))} is not set here; there is on_failure")
        return self

    @property
    def arguments(self) -> dict[str, Any]:
        """What the expectation itself is given."""
        return dict(self.model_extra or {})

    @property
    def of_one_row(self) -> bool:
        """Whether each row is judged by itself, and each has to hold."""
        return self.expect in OF_ONE_ROW and "mostly" not in self.arguments

    @property
    def unique(self) -> str | None:
        """The column whose values all have to differ, where that is what is asked."""
        if self.expect != _UNIQUE or self.arguments.keys() - {"column"}:
            return None
        column = self.arguments.get("column")
        return column if isinstance(column, str) else None

    @property
    def counts_rows(self) -> bool:
        """Whether it is about the number of rows alone."""
        return self.expect.startswith(_COUNTING)

    def mentions(self, columns: Iterable[str]) -> set[str]:
        """Those of these columns whose name is in an argument, also in a condition on rows."""
        words = set(re.findall(r"\w+", json.dumps(self.arguments, default=str)))
        return words & set(columns)


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    expectations: list[Expectation] = []


@dataclass(frozen=True, slots=True)
class Suite:
    """Expectations in order, each with where it stands, for errors."""

    name: Name
    entries: tuple[tuple[str, Expectation], ...]

    @property
    def digest(self) -> str:
        """Names what is asked."""
        return _digest(self.entries)

    def names(self, column: str) -> bool:
        """Whether an expectation is about a column."""
        return any(entry.mentions([column]) for _, entry in self.entries)

    @property
    def checked(self) -> "Suite":
        """What is asked of the whole table; a failure blocks or warns."""
        kept = (each for each in self.entries if each[1].on_failure != "quarantine")
        return Suite(self.name, tuple(kept))

    @property
    def quarantining(self) -> "Suite | None":
        """What is asked of each shard before it is written, or None where nothing is."""
        kept = tuple(each for each in self.entries if each[1].on_failure == "quarantine")
        return Suite(self.name, kept) if kept else None


def load_suite(name: Name, folder: Path | None = None) -> Suite:
    """A suite as it is shipped, and what an installation adds to it.

    Args:
        folder: where the installation's files are, if it has any.

    Raises:
        HeadwaterError: a file does not parse, names a column that there is none of, or would have
            chunks quarantined.
    """
    shipped = resources.files("headwater.documents").joinpath(f"expectations/{name}.yaml")
    entries = _entries(name, shipped.read_text("utf-8"), f"expectations/{name}.yaml")
    if folder is not None:
        path = folder / f"{name}.yaml"
        try:
            entries += _entries(name, path.read_text("utf-8"), str(path))
        except FileNotFoundError:
            pass  # most installations add nothing
        except UnicodeDecodeError as error:
            raise _mistake(str(path), "it is not UTF-8") from error
    return Suite(name, tuple(entries))


def _entries(name: Name, content: str, path: str) -> list[tuple[str, Expectation]]:
    try:
        parsed = _File.model_validate(yaml.safe_load(content) or {})
    except yaml.YAMLError as error:
        raise _mistake(path, str(error).splitlines()[0]) from error
    except ValidationError as error:
        raise _mistake(path, _first(error)) from error
    entries = list[tuple[str, Expectation]]()
    for number, entry in enumerate(parsed.expectations, start=1):
        place = f"{path}, expectation {number} ({entry.expect})"
        for argument in _NAMING:
            column = entry.arguments.get(argument)
            if column is not None and column not in COLUMNS[name]:
                raise HeadwaterError(
                    f"{place} names the column {column!r}, which {name} do not have.",
                    mend=f"There are {', '.join(COLUMNS[name])}.",
                )
        if name == "chunks" and entry.on_failure == "quarantine":
            raise HeadwaterError(
                f"{place} would have chunks quarantined, and documents are.",
                mend="Say `block` or `warn`, or ask it of the documents in documents.yaml.",
            )
        entries.append((place, entry))
    return entries


def _digest(entries: Sequence[tuple[str, Expectation]]) -> str:
    return digest_of([entry.model_dump(mode="json") for _, entry in entries])


def _first(error: ValidationError) -> str:
    """The first mistake, with where it is."""
    first = error.errors(include_url=False)[0]
    place = list(first["loc"])
    if len(place) > 1 and isinstance(place[1], int):
        place = [f"expectation {place[1] + 1}", *place[2:]]
    return ": ".join([*map(str, place or ["the file"]), first["msg"]])


def _mistake(path: str, what: str) -> HeadwaterError:
    return HeadwaterError(
        f"{path} is not a valid suite: {what}.",
        mend="Correct it, or remove the file to ask what Headwater's own suite asks.",
    )
