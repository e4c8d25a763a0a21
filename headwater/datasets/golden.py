"""The golden set: frozen questions with reference answers, never trained on.

Three origins. *Curated* questions are written by hand and shipped in `golden/*.yaml`; *confirmed*
ones live in the user's own file; *provisional* ones are made from titles and headings, for a
source on its first days. Knows documents; knows nothing about how answers are retrieved,
generated or scored.
"""

import logging
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from headwater.datasets.known_items import Document, provisional_items
from headwater.documents.duplicates import survivors
from headwater.errors import HeadwaterError
from headwater.files import write_atomic
from headwater.lake import Lake, rows_to_table
from headwater.records import GoldenItem, Heading, digest_of, short

log = logging.getLogger("headwater")

CURATED = Path(__file__).with_name("golden")
#: A source with this many curated or confirmed questions gets no provisional ones.
ENOUGH_CONFIRMED = 10


class Question(BaseModel):
    """A question as its file holds it; `evidence` quotes the passages that have the answer."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    question: str = Field(min_length=8)
    reference: str = Field(min_length=8)
    category: str = Field(min_length=1)
    evidence: tuple[str, ...] = ()
    uris: tuple[str, ...] = Field(min_length=1)


class GoldenFile(BaseModel):
    """A file of questions; `rejected` names those that a reviewer has turned down."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    corpus: str = ""
    items: tuple[Question, ...] = ()
    rejected: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldenStats:
    """What the golden set holds: questions by origin, and its digest.

    `dropped` counts curated and confirmed questions none of whose documents is in the lake.
    """

    items: int
    curated: int
    confirmed: int
    provisional: int
    dropped: int
    digest: str


def read_file(path: Path) -> GoldenFile:
    """Read and check a file of questions; a missing file is an empty one.

    Raises:
        HeadwaterError: the file is not YAML of this shape, or an id occurs twice.
    """
    if not path.exists():
        return GoldenFile()
    try:
        content = GoldenFile.model_validate(yaml.safe_load(path.read_text("utf-8")) or {})
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        said = " ".join(str(error).split())
        raise HeadwaterError(f"{path} is not YAML: {said}.", mend="Correct the file.") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the whole"
        raise HeadwaterError(
            f"{path}: {where}: {first['msg']}.", mend="Correct this entry."
        ) from error
    _refuse_repeated((item.id for item in content.items), path)
    return content


def load_curated() -> list[GoldenItem]:
    """The questions that ship with Headwater, over its default corpus, in file order."""
    found = [read_file(path) for path in sorted(CURATED.glob("*.yaml"))]
    items = [_golden(item) for content in found for item in content.items]
    _refuse_repeated((item.id for item in items), CURATED)
    return items


def golden_digest(items: Iterable[GoldenItem]) -> str:
    """Names the questions and everything about them, whatever their order."""
    return digest_of("golden/1", [asdict(item) for item in sorted(items, key=lambda i: i.id)])


def read_golden(lake: Lake) -> list[GoldenItem]:
    """The golden set as the lake holds it: provisional questions last, then by id."""
    rows = lake.read("golden_set").to_pylist()
    items = [GoldenItem(**{**row, "uris": tuple(row["uris"])}) for row in rows]
    return sorted(items, key=lambda item: (item.provisional, item.id))


def build_golden_set(
    lake: Lake,
    user_file: Path,
    curated: Sequence[GoldenItem] | None = None,
    limit: int = 40,
) -> GoldenStats:
    """Write the table `golden_set` for the documents that are in the lake.

    A table that holds these questions already is left as it is.

    Args:
        user_file: the user's confirmed questions; it may not exist.
        curated: instead of the questions that ship with Headwater.
        limit: at most this many provisional questions.

    Raises:
        HeadwaterError: the user's file is malformed or takes the id of a curated question.
    """
    own = read_file(user_file)
    shipped = load_curated() if curated is None else list(curated)
    confirmed = [_golden(item) for item in own.items]
    _refuse_repeated((item.id for item in [*shipped, *confirmed]), user_file)
    sources, stand_ins = document_sources(lake), survivors(lake)
    kept_curated, gone_curated = _answerable(shipped, sources, stand_ins, own.rejected)
    kept_confirmed, gone_confirmed = _answerable(confirmed, sources, stand_ins, own.rejected)
    if gone_confirmed:
        names = ", ".join(item.id for item in gone_confirmed)
        log.warning("golden questions whose documents are gone are left out: %s", names)

    kept = [*kept_curated, *kept_confirmed]
    asked = {uri for item in kept_curated for uri in item.uris}
    young = _sources_to_ask_about(kept, sources)
    left_out = {*asked, *stand_ins}
    documents = (found for found in _documents(lake, young) if found[0] not in left_out)
    skip = {*own.rejected, *(item.id for item in kept)}
    made = provisional_items(documents, limit, skip=skip)
    stats = GoldenStats(
        items=len(kept) + len(made),
        curated=len(kept_curated),
        confirmed=len(kept_confirmed),
        provisional=len(made),
        dropped=len(gone_curated) + len(gone_confirmed),
        digest=golden_digest([*kept, *made]),
    )
    if lake.version("golden_set") is None or golden_digest(read_golden(lake)) != stats.digest:
        rows = map(asdict, [*kept, *made])
        lake.overwrite("golden_set", rows_to_table("golden_set", rows))
    return stats


def file_digest(path: Path) -> str:
    """Names what people have confirmed, added and rejected; the same for no file and an empty one."""
    content = read_file(path)
    return digest_of(content.model_dump(mode="json"))


def document_sources(lake: Lake) -> dict[str, str]:
    """URI of every document in the lake, with its source."""
    rows = lake.read("clean_documents", columns=["uri", "source"]).to_pylist()
    return {row["uri"]: row["source"] for row in rows}


def pending(lake: Lake) -> list[GoldenItem]:
    """The provisional questions that wait for a person to accept or reject them."""
    return [item for item in read_golden(lake) if item.provisional]


def accept(user_file: Path, item: GoldenItem) -> GoldenItem:
    """Confirm a question, as it is or as the reviewer has changed it; replaces one with its id."""
    content = read_file(user_file)
    confirmed = _checked(
        id=item.id,
        question=item.question.strip(),
        reference=item.reference.strip(),
        category=item.category,
        uris=item.uris,
    )
    others = [other for other in content.items if other.id != item.id]
    rejected = [name for name in content.rejected if name != item.id]
    _write(user_file, content, [*others, confirmed], rejected)
    return _golden(confirmed)


def reject(user_file: Path, item_id: str) -> None:
    """Turn a question down for good, whatever its origin."""
    content = read_file(user_file)
    others = [item for item in content.items if item.id != item_id]
    _write(user_file, content, others, sorted({*content.rejected, item_id}))


def add(
    user_file: Path,
    question: str,
    reference: str,
    uri: str,
    *,
    known: Collection[str] | None = None,
) -> GoldenItem:
    """Add a confirmed question of the user's own.

    Args:
        uri: the document that holds the answer.
        known: URIs that there are, where the caller knows them (`document_sources`).

    Raises:
        HeadwaterError: question or reference is too short, or there is no such document.
    """
    if known is not None and uri not in known:
        near = ", ".join(sorted(name for name in known if uri.rsplit("/", 1)[-1] in name)[:3])
        raise HeadwaterError(
            f"There is no document {uri}.",
            mend=f"Give the URI of a document in the lake{f', such as {near}' if near else ''}.",
        )
    return accept(
        user_file,
        GoldenItem(
            id=f"user-{short(digest_of(question.strip(), uri))}",
            question=question,
            reference=reference,
            uris=(uri,),
            category="user",
            provisional=False,
        ),
    )


def _golden(item: Question) -> GoldenItem:
    return GoldenItem(**item.model_dump(exclude={"evidence"}), provisional=False)


def _checked(**fields: object) -> Question:
    try:
        return Question.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        raise HeadwaterError(
            f"This question cannot be kept: {name}: {first['msg']}.", mend=f"Change its {name}."
        ) from error


def _write(
    path: Path, content: GoldenFile, items: Sequence[Question], rejected: Sequence[str]
) -> None:
    changed = content.model_copy(update={"items": tuple(items), "rejected": tuple(rejected)})
    plain = changed.model_dump(mode="json", exclude_defaults=True)
    write_atomic(path, yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=100))


def _refuse_repeated(ids: Iterable[str], path: Path) -> None:
    repeated = sorted(name for name, count in Counter(ids).items() if count > 1)
    if repeated:
        raise HeadwaterError(
            f"{path}: these ids name two questions: {', '.join(repeated)}.",
            mend="Give every question an id of its own.",
        )


def _answerable(
    items: Iterable[GoldenItem],
    sources: Mapping[str, str],
    stand_ins: Mapping[str, str],
    rejected: Collection[str],
) -> tuple[list[GoldenItem], list[GoldenItem]]:
    """The items that some document in the lake answers, cut to those documents; and the others.

    A duplicate is not indexed: the document that stands in for it holds the passage.
    """
    kept: list[GoldenItem] = []
    gone: list[GoldenItem] = []
    for item in items:
        if item.id not in rejected:
            held = dict.fromkeys(stand_ins.get(uri, uri) for uri in item.uris)
            uris = tuple(uri for uri in held if uri in sources)
            (kept if uris else gone).append(replace(item, uris=uris or item.uris))
    return kept, gone


def _sources_to_ask_about(kept: Iterable[GoldenItem], sources: Mapping[str, str]) -> list[str]:
    questions = Counter(name for item in kept for name in {sources[uri] for uri in item.uris})
    return sorted(name for name in set(sources.values()) if questions[name] < ENOUGH_CONFIRMED)


def _documents(lake: Lake, sources: Sequence[str]) -> Iterator[Document]:
    """Documents of some sources, one shard's text in memory at a time."""
    where = {"source": list(sources)}
    shards = lake.read("clean_documents", columns=["shard"], where=where)["shard"].unique()
    columns = ["uri", "title", "headings", "text"]
    for shard in sorted(shards.to_pylist()):
        rows = lake.read("clean_documents", columns=columns, where={**where, "shard": [shard]})
        for row in rows.to_pylist():
            headings = tuple(Heading(**heading) for heading in row["headings"])
            yield row["uri"], row["title"], headings, row["text"]
