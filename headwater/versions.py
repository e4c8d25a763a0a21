"""Versions of the lake's tables: what changed between two, what one held, and going back to one.

Knows tables and files, not stages, runs or releases. A restored table is held: stages leave it as it
is until it is told to follow its inputs again (docs/adr/0010). Tombstones have versions like any table
and are never put back: what was said of a document outlives it, and its tags decide what becomes of that.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from headwater.errors import HeadwaterError, IntegrityError
from headwater.files import read_json, write_json
from headwater.lake import Commit, Lake
from headwater.records import digest_of
from headwater.tables import PARTITIONED, SCHEMAS
from headwater.tombstones import KEPT, RESTORED, Burial

#: What an index is made from, in the order in which it is made.
DOCUMENTS = (
    "raw_documents", "quarantine", "clean_documents", "document_shards", "chunk_embeddings",
)  # fmt: skip
#: Those that what is downstream of them follows when they alone are put back.
HOLDABLE = ("raw_documents", "clean_documents", "document_shards")
#: Why another is not put back alone, and what to do.
_NOT_ALONE = {
    "quarantine": "It belongs to raw_documents and clean_documents: use --as-of, --run or --release.",
    "tombstones": "Tags outlive their documents: tombstones only follow what comes and goes.",
    "duplicates": "It is found anew from clean_documents: restore that, and build.",
    "chunk_embeddings": "A vector is named by its text: restore document_shards, and build.",
    "golden_set": "It is made from golden.yaml and the documents: put those back, and build.",
    "sft_dataset": "A retraining makes it; `headwater releases promote` goes back to an adapter.",
    "preference_pairs": "It is made from requests and feedback; its next run makes it anew.",
    "requests": "It is a copy of the endpoint's log, which is not undone.",
    "feedback": "It is a copy of the endpoint's log, which is not undone.",
}
#: What identifies a row, and what says whether it is the same; () is the whole row.
_IDENTITY: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "raw_documents": (("uri",), ("digest",)),
    "clean_documents": (("uri",), ("digest",)),
    "quarantine": (("stage", "uri"), ("reason", "input_digest")),
    "tombstones": (("uri",), ("licence", "access", "reason")),
    "duplicates": (("uri",), ("survivor", "kind")),
    "document_shards": (("id",), ("digest",)),
    "chunk_embeddings": (("embed_digest", "model"), ("embed_digest",)),
    "golden_set": (("id",), ()),
    "sft_dataset": (("id",), ()),
    "preference_pairs": (("id",), ()),
    "requests": (("trace",), ("time", "status")),
    "feedback": (("id",), ()),
}
_INDEXES = "indexes.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Rows that two versions of a table do not share: key, partition and digest of each.

    `partitions` counts them by shard (or day) and kind.
    """

    table: str
    before: int
    after: int
    added: list[dict[str, str]]
    removed: list[dict[str, str]]
    changed: list[dict[str, str]]
    partitions: dict[str, dict[str, int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """A table that was put back: `version` is new, and has the files of version `source`."""

    table: str
    source: int
    version: int
    held: bool


def existing(lake: Lake, tables: Sequence[str] = ()) -> list[str]:
    """The tables named, or all that were ever written.

    Raises:
        HeadwaterError: one of those named was not.
    """
    found = [name for name in SCHEMAS if lake.version(name) is not None]
    for name in tables:
        if name not in found:
            raise HeadwaterError(
                f"There is no table {name!r}.",
                mend=f"The tables are: {', '.join(found) or 'none before the first build'}.",
            )
    return list(tables) or found


def parse_time(text: str) -> datetime:
    """A moment as ISO 8601; without an offset it is UTC.

    Raises:
        HeadwaterError: the text is none.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise HeadwaterError(
            f"{text!r} is no time.", mend="Give one as 2026-11-21T14:00, in UTC."
        ) from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def find(lake: Lake, table: str, wanted: str) -> int:
    """The version that a number or a time names: at a time, the newest of then.

    Raises:
        HeadwaterError: the table has no such version.
    """
    (table,) = existing(lake, [table])
    history = lake.history(table)
    if wanted.isdecimal():
        found = [commit.version for commit in history if commit.version == int(wanted)]
    else:
        found = [version] if (version := _at(history, parse_time(wanted))) is not None else []
    if not found:
        raise HeadwaterError(
            f"{table} has no version {wanted!r}; it has {history[-1].version} to"
            f" {history[0].version}, since {history[-1].time:%Y-%m-%dT%H:%M:%S}.",
            mend=f"`headwater data log {table}` lists them.",
        )
    return found[0]


def diff(lake: Lake, table: str, before: int, after: int) -> Difference:
    """Rows that were added, removed or changed. Reads keys and digests of changed partitions alone."""
    partitions = _changed_partitions(lake, table, before, after)
    old, new = (_rows(lake, table, version, partitions) for version in (before, after))

    def listed(keys: Iterable[tuple[str, str]], **sides: Mapping[tuple[str, str], str]) -> Any:
        return [
            {
                "key": key,
                "partition": partition,
                **{name: rows[key, partition] for name, rows in sides.items()},
            }
            for key, partition in sorted(keys)
        ]

    added = listed(new.keys() - old.keys(), after=new)
    removed = listed(old.keys() - new.keys(), before=old)
    changed = listed(
        (key for key in old.keys() & new.keys() if old[key] != new[key]), before=old, after=new
    )
    counts: dict[str, Counter[str]] = {}
    for kind, rows in (("added", added), ("removed", removed), ("changed", changed)):
        for row in rows:
            counts.setdefault(row["partition"], Counter())[kind] += 1
    return Difference(
        table=table,
        before=before,
        after=after,
        added=added,
        removed=removed,
        changed=changed,
        partitions={name: dict(count) for name, count in sorted(counts.items())},
    )


def show(
    lake: Lake, table: str, version: int, where: Mapping[str, str], limit: int
) -> list[dict[str, Any]]:
    """Rows of a table as of a version.

    Raises:
        HeadwaterError: `where` names a column that the table does not have, or files are vacuumed.
    """
    known = SCHEMAS[table].names
    for column in where:
        if column not in known:
            raise HeadwaterError(
                f"{table} has no column {column!r}.", mend=f"It has: {', '.join(known)}."
            )
    _check_files(lake, table, version)
    return [dict(row) for row in lake.head(table, version, where, limit).to_pylist()]


def as_of(lake: Lake, moment: datetime) -> dict[str, int]:
    """The version that each document table had at a moment.

    Raises:
        HeadwaterError: there was none then.
    """
    found = {table: _at(lake.history(table), moment) for table in DOCUMENTS}
    if any(version is None for version in found.values()):
        raise HeadwaterError(
            f"At {moment.isoformat(timespec='seconds')} there were no documents.",
            mend="`headwater data log raw_documents` lists what there is.",
        )
    return {table: version for table, version in found.items() if version is not None}


def of_run(lake: Lake, run: str) -> dict[str, int]:
    """The version of each document table as a run left it; the beginning of its id is enough.

    Raises:
        HeadwaterError: the run wrote none of them.
    """
    commits = [
        c for table in DOCUMENTS for c in lake.history(table) if run and c.run.startswith(run)
    ]
    if len({commit.run for commit in commits}) != 1:
        raise HeadwaterError(
            f"{len({c.run for c in commits})} runs called {run!r} wrote a document table.",
            mend="`headwater data log` names the run of each version; or use --as-of.",
        )
    return as_of(lake, max(commit.time for commit in commits))


def note_index(lake: Lake, index: str) -> None:
    """Note the versions that an index is made from; for who holds `Lake.alone`."""
    indexes = _read_indexes(lake)
    versions = {name: v for name in DOCUMENTS if (v := lake.version(name)) is not None}
    if indexes.get(index) != versions:
        write_json(lake.root / _INDEXES, {**indexes, index: versions})


def of_index(lake: Lake, index: str) -> dict[str, int] | None:
    """The versions that an index was made from last, or None where that was not noted."""
    return _read_indexes(lake).get(index)


def forget_indexes(lake: Lake, keep: Iterable[str]) -> None:
    """Drop the notes on other indexes than these."""
    indexes, wanted = _read_indexes(lake), set(keep)
    if indexes.keys() - wanted:
        write_json(lake.root / _INDEXES, {k: v for k, v in indexes.items() if k in wanted})


def check_alone(table: str) -> None:
    """Refuse to put back a table that means nothing without others.

    Raises:
        HeadwaterError: it does not.
    """
    if table not in HOLDABLE:
        raise HeadwaterError(
            f"{table} is not restored by itself.",
            mend=_NOT_ALONE.get(table, f"Those that are: {', '.join(HOLDABLE)}."),
        )


def restore(
    lake: Lake,
    targets: Mapping[str, int],
    *,
    why: str,
    tell: Callable[[Restored], None] = lambda _: None,
) -> list[Restored]:
    """Put tables back to versions, and hold the first of them there; what follows it, follows.

    Nothing is changed where a file of any of these versions is gone. Killed in between, the same
    again finishes it: the hold is set first, and tombstones of what goes before anything does.

    Args:
        tell: called with what was restored while nobody else may write.

    Raises:
        Busy: a build is at work on the tables.
        HeadwaterError: a version's files were vacuumed.
    """
    held = next(table for table in DOCUMENTS if table in targets)
    with lake.alone("headwater data restore"):
        for table, version in targets.items():
            _check_files(lake, table, version)
        others = {name: hold for name, hold in lake.holds().items() if name not in targets}
        since = datetime.now(UTC).isoformat(timespec="seconds")
        lake.set_holds(others | {held: {"version": targets[held], "since": since, "why": why}})
        _bury_what_goes(lake, targets)
        restored = []
        for table, version in targets.items():
            new = lake.restore(table, version)
            if lake.files(table, new) != lake.files(table, version):
                raise IntegrityError(
                    f"{table} does not have the files of version {version} after its restore.",
                    mend=f"Another program writes it; see `headwater data log {table}`.",
                )
            each = Restored(table=table, source=version, version=new, held=table == held)
            tell(each)
            restored.append(each)
    return restored


def follow(lake: Lake, table: str, *, tell: Callable[[str], None] = lambda _: None) -> None:
    """Let a held table follow its inputs again.

    Raises:
        Busy: a build is at work on the tables.
        HeadwaterError: it is not held.
    """
    with lake.alone("headwater data follow"):
        holds = lake.holds()
        if table not in holds:
            raise HeadwaterError(
                f"{table} is not held.", mend=f"Held are: {', '.join(holds) or 'none'}."
            )
        tell(table)
        lake.set_holds({name: hold for name, hold in holds.items() if name != table})


def as_row(commit: Commit) -> dict[str, Any]:
    """A version as plain JSON."""
    return {**asdict(commit), "time": commit.time.isoformat(timespec="milliseconds")}


def _bury_what_goes(lake: Lake, targets: Mapping[str, int]) -> None:
    """Keep the tags of documents that were not there then, or had fewer tags."""
    burial = Burial(lake)
    for table in ("raw_documents", "quarantine"):
        if table not in targets:
            continue
        old = lake.read(table, columns=["uri", "access"], version=targets[table])
        then = {row["uri"]: set(row["access"] or ()) for row in old.to_pylist()}
        now = lake.read(table, columns=KEPT).to_pylist()
        lost = [
            row
            for row in now
            if row["uri"] not in then or not then[row["uri"]].issuperset(row["access"] or ())
        ]
        burial.add(lost, RESTORED)
    burial.commit()


def _at(history: Sequence[Commit], moment: datetime) -> int | None:
    """The version in force at a moment, of a history that begins with the newest."""
    return next((commit.version for commit in history if commit.time <= moment), None)


def _changed_partitions(lake: Lake, table: str, before: int, after: int) -> list[str] | None:
    """Partitions whose files differ; None where the table has none."""
    column = PARTITIONED.get(table)
    for version in (before, after):
        _check_files(lake, table, version)
    if column is None:
        return None
    paths = lake.files(table, before).keys() ^ lake.files(table, after).keys()
    return sorted({path.split("/")[0].removeprefix(f"{column}=") for path in paths})


def _rows(
    lake: Lake, table: str, version: int, partitions: Sequence[str] | None
) -> dict[tuple[str, str], str]:
    """Digest of each row by key and partition."""
    keys, digests = _IDENTITY[table]
    column = PARTITIONED.get(table)
    columns = [*keys, *digests] if digests else SCHEMAS[table].names
    wanted = list(dict.fromkeys([*columns, *([column] if column else [])]))
    found: dict[tuple[str, str], str] = {}
    if partitions == []:
        return found
    for batch in lake.batches(table, version, wanted, partitions):
        for row in batch.to_pylist():
            key = " ".join(str(row[name]) for name in keys)
            same = [str(row.get(name)) for name in columns if name not in keys or name in digests]
            digest = same[0] if len(same) == 1 else digest_of(same)
            found[key, row[column] if column else ""] = digest
    return found


def _check_files(lake: Lake, table: str, version: int) -> None:
    paths = [lake.path(table) / path for path in lake.files(table, version)]
    gone = sum(not path.exists() for path in paths)
    if gone:
        raise HeadwaterError(
            f"Version {version} of {table} was vacuumed: {gone} of its {len(paths)} files are gone.",
            mend="Choose a newer one; releases and HEADWATER_RETAIN_DAYS say which are kept.",
        )


def _read_indexes(lake: Lake) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = read_json(lake.root / _INDEXES) or {}
    return found
