"""A document tagged `restricted` never teaches: not as a source, not as context, not by a rating, and
not once it is gone.
"""

from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from headwater import versions
from headwater.datasets.preferences import build_preference_pairs, read_pairs
from headwater.datasets.restricted import restricted_documents, restricted_rows
from headwater.datasets.sft import read_rows
from headwater.documents.raw import update_raw
from headwater.documents.sources import FolderSource
from headwater.lake import Lake, rows_to_table
from tests.datasets.test_feedback import BETTER, log, request, said
from tests.datasets.test_sft import build, fill, manual

SECRET = "manual:///boiler.html"


def tagged(lake: Lake, uris: Iterable[str], access: list[str]) -> None:
    rows = [row | {"access": access} if row["uri"] in uris else row for row in manual()]
    fill(lake, rows)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path)


def test_chunks_of_a_restricted_document_are_neither_asked_about_nor_shown(lake: Lake) -> None:
    tagged(lake, {SECRET}, ["internal", "restricted"])
    secret = {row["id"] for row in manual() if row["uri"] == SECRET}
    asked: list[str] = []
    build(lake, written=99, ask=lambda heading, text: asked.append(text))
    rows = read_rows(lake)
    assert len(rows) > 20
    assert all(row.uri != SECRET and secret.isdisjoint(row.context) for row in rows)
    assert not any("boiler" in text for text in asked)
    assert restricted_rows(lake, "sft_dataset") == []
    # The same documents with another tag are taught and shown.
    tagged(lake, {SECRET}, ["internal"])
    build(lake)
    rows = read_rows(lake)
    assert any(row.uri == SECRET for row in rows)
    assert any(not secret.isdisjoint(row.context) and row.uri != SECRET for row in rows)


def test_a_tag_that_came_later_is_found_in_rows_and_contexts(lake: Lake) -> None:
    fill(lake, manual())
    build(lake)
    tagged(lake, {SECRET}, ["restricted"])
    found = restricted_rows(lake, "sft_dataset")
    assert {row.place for row in found} == {"uri", "context"}
    assert {row.uri for row in found} == {SECRET}
    build(lake)
    assert restricted_rows(lake, "sft_dataset") == []


def test_the_same_text_in_a_public_document_is_taught_from_there(lake: Lake) -> None:
    copy = [row | {"uri": "manual:///public.html", "id": f"p{row['id']}"} for row in manual()[:2]]
    secret = [row | {"access": ["restricted"]} for row in manual()[:2]]
    fill(lake, [*secret, *copy, *manual()[2:]])
    build(lake)
    rows = read_rows(lake)
    assert any(row.uri == "manual:///public.html" for row in rows)
    assert restricted_rows(lake, "sft_dataset") == []


def test_what_people_said_of_restricted_passages_does_not_teach(lake: Lake) -> None:
    """The correction may repeat the passage, even where it has been edited since."""
    tagged(lake, {SECRET}, ["restricted"])
    chunks = [str(row["id"]) for row in manual()]
    mixed = request("t", ["edited since", chunks[4]], uris=[SECRET, "manual:///pump.html"])
    words = [said("t", correction=BETTER), said("t", 1, rival="Worse.", preferred="answer")]
    log(lake, [mixed], words)
    build(lake)
    build_preference_pairs(lake)
    assert "correction" not in {row.kind for row in read_rows(lake)}
    assert read_pairs(lake) == []
    log(lake, [mixed | {"uris": ["manual:///pump.html"] * 2}], words)
    build(lake)
    build_preference_pairs(lake)
    assert "correction" in {row.kind for row in read_rows(lake)}
    assert len(read_pairs(lake)) == 2


@pytest.mark.parametrize(
    "table", ["raw_documents", "clean_documents", "document_shards", "quarantine", "tombstones"]
)
def test_any_table_of_documents_may_say_so(lake: Lake, table: str) -> None:
    row = {"uri": "docs:///a", "source": "docs", "shard": "00", "access": ["restricted"]}
    rows = [row, row | {"uri": "docs:///b", "access": None}, row | {"uri": "c", "access": ["hr"]}]
    lake.replace(table, rows_to_table(table, rows), keys=["00"])
    assert restricted_documents(lake) == {"docs:///a"}


SHARDS = ["00", "01", "02", "03"]
PLAN = "secret:///plan.md"


class Secrets:
    """A folder of restricted documents, and an answer that was given from one of them.

    And from an open one, which is still there: that alone would let what was said of it pass.
    """

    def __init__(self, lake: Lake, folder: Path) -> None:
        self.lake, self.folder = lake, folder
        folder.mkdir()
        for name in ("plan", "other"):
            (folder / f"{name}.md").write_text(f"# {name}\n\nThe harbour is sold in May.\n")
        fill(lake, manual())
        chunks = ["of the plan", str(manual()[4]["id"])]
        words = [said("t", correction=BETTER), said("t", 1, rival="Worse.", preferred="answer")]
        log(lake, [request("t", chunks, uris=[PLAN, "manual:///pump.html"])], words)

    def read(self, *access: str, max_bytes: int = 2**20) -> None:
        source = FolderSource(name="secret", path=self.folder, access=access)
        update_raw(self.lake, [source], SHARDS, len(SHARDS), max_bytes)

    def taught(self) -> bool:
        """Whether what was said becomes training data; of one kind and of the other it is the same."""
        build(self.lake)
        build_preference_pairs(self.lake)
        corrected = "correction" in {row.kind for row in read_rows(self.lake)}
        assert corrected == bool(read_pairs(self.lake))
        return corrected

    def tombstones(self) -> dict[str, tuple[list[str] | None, str]]:
        rows = self.lake.read("tombstones").to_pylist()
        return {row["uri"]: (row["access"], row["reason"]) for row in rows}


@pytest.fixture
def secrets(lake: Lake, tmp_path: Path) -> Secrets:
    return Secrets(lake, tmp_path / "secret")


def remove(secrets: Secrets) -> None:
    (secrets.folder / "plan.md").unlink()
    secrets.read("restricted")


def remove_source(secrets: Secrets) -> None:
    update_raw(secrets.lake, [], SHARDS, len(SHARDS), 2**20)


def refuse(secrets: Secrets) -> None:
    (secrets.folder / "plan.md").write_text("x" * 5000)
    secrets.read("restricted", max_bytes=4000)


def refuse_and_remove(secrets: Secrets) -> None:
    refuse(secrets)
    remove(secrets)


def go_back(secrets: Secrets) -> None:
    versions.restore(secrets.lake, {"raw_documents": 0}, why="test")
    assert secrets.lake.read("raw_documents").num_rows == 0


@pytest.mark.parametrize(
    ("leave", "reason"),
    [
        (remove, "removed"),
        (remove_source, "source removed"),
        (refuse, "refused"),
        (refuse_and_remove, "removed"),
        (go_back, "restored"),
    ],
)
def test_what_was_said_of_a_restricted_document_does_not_teach_once_it_is_gone(
    secrets: Secrets, leave: Callable[[Secrets], None], reason: str
) -> None:
    secrets.read("restricted")
    assert not secrets.taught()
    leave(secrets)
    uris = {row["uri"] for row in secrets.lake.read("raw_documents", columns=["uri"]).to_pylist()}
    assert PLAN not in uris
    assert secrets.tombstones()[PLAN] == (["restricted"], reason)
    assert not secrets.taught()

    # Rows that get there by another way are found by the trace they come from.
    for table, words in (
        ("sft_dataset", {"kind": "correction", "uri": "manual:///pump.html", "trace": "t"}),
        ("preference_pairs", {"source": "rating", "traces": ["t"]}),
    ):
        forced = {"id": "forced", "question": "?", "context": [], **words}
        secrets.lake.overwrite(table, rows_to_table(table, [forced]))
        (found,) = restricted_rows(secrets.lake, table)
        assert (found.row_id, found.place, found.uri) == ("forced", "trace", PLAN)


def test_a_document_that_is_back_without_the_tag_may_teach(secrets: Secrets) -> None:
    secrets.read("restricted")
    remove_source(secrets)
    assert secrets.tombstones().keys() == {PLAN, "secret:///other.md"}
    secrets.read("hr")
    assert secrets.tombstones() == {}
    assert secrets.taught()
    remove_source(secrets)
    assert secrets.tombstones()[PLAN] == (["hr"], "source removed")
    assert secrets.taught(), "no tag of it forbids that"


def test_a_tag_given_to_what_is_refused_is_known_then_and_later(secrets: Secrets) -> None:
    secrets.read()
    assert secrets.taught()
    refuse(secrets)
    (row,) = secrets.lake.read("quarantine").to_pylist()
    assert (row["uri"], row["access"], row["licence"]) == (PLAN, ["restricted"], "unknown")
    assert secrets.tombstones()[PLAN] == (None, "refused"), "that is how it went"
    assert not secrets.taught()
    remove(secrets)
    assert secrets.lake.read("quarantine").num_rows == 0
    assert secrets.tombstones()[PLAN] == (["restricted"], "removed")
    assert not secrets.taught()
