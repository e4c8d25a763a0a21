"""Every check of ours with one input that passes and one that fails."""

from pathlib import Path

import dagster as dg
import pytest

from assets.checks.datasets import (
    enough_rows_to_train,
    golden_set_is_curated,
    no_golden_item_in_preferences,
    no_golden_item_in_training,
    no_restricted_pairs,
    no_restricted_rows,
)
from assets.checks.documents import (
    chunks_meet_expectations,
    corpus_is_as_usual,
    documents_meet_expectations,
)
from assets.documents import MEASURED_OF, MEASURES
from headwater.lake import Lake, rows_to_table
from headwater.records import digest_of
from resources.lake import LakeResource

SHA = digest_of("anything")


@pytest.fixture
def lake(tmp_path) -> Lake:
    lake = Lake(tmp_path / "lake")
    lake.ensure()
    return lake


@pytest.fixture
def resource(lake) -> LakeResource:
    return LakeResource(path=str(lake.root))


def document(**changes):
    text = "Tea is a drink made of leaves and hot water.\n"
    return {
        "uri": "drinks:///tea.md", "source": "drinks", "shard": "00", "title": "Tea",
        "language": "en", "text": text, "headings": [], "licence": "unknown",
        "input_digest": SHA, "digest": SHA,
    } | changes  # fmt: skip


def chunk(**changes):
    return {
        "id": SHA, "uri": "drinks:///tea.md", "source": "drinks", "shard": "00", "ordinal": 0,
        "start": 0, "end": 45, "title": "Tea", "heading": "Tea", "text": "Tea is a drink.",
        "tokens": 12, "embed_digest": SHA, "digest": SHA, "input_digest": SHA,
    } | changes  # fmt: skip


def golden(provisional: bool = False):
    return {
        "id": "g1", "question": "How hot should water for green tea be?",
        "reference": "About eighty degrees, since boiling water makes it bitter.",
        "uris": ["drinks:///tea.md"], "category": "tea", "provisional": provisional,
    }  # fmt: skip


def row(at: int, **changes):
    return {
        "id": f"row{at}", "kind": "heading", "question": f"What is said about kettle number {at}?",
        "answer": f"Kettle number {at} holds two litres of cold water.", "chunk_id": SHA,
        "uri": "drinks:///tea.md", "context": [SHA], "split": "train",
    } | changes  # fmt: skip


def test_documents_meet_expectations(lake, resource):
    lake.replace("clean_documents", rows_to_table("clean_documents", [document()]), keys=["00"])
    assert documents_meet_expectations(resource).passed
    twice = [document(), document(title="The same URI again")]
    lake.replace("clean_documents", rows_to_table("clean_documents", twice), keys=["00"])
    result = documents_meet_expectations(resource)
    assert not result.passed
    assert "drinks:///tea.md" in result.metadata["failing_rows"].value.replace("\\", "")
    assert "| 00 | 2 | 2 | fails |" in result.metadata["shards"].value
    page = Path(result.metadata["page"].value).read_text("utf-8")
    assert "Shards" in page
    assert "10 of 11" in page and "expect_column_values_to_be_unique on uri fails." in page
    assert "drinks:///tea.md" in page and "min_value 1" in page


@pytest.mark.parametrize("broken", [{"tokens": 900}, {"start": 7}, {"embed_digest": "not one"}])
def test_chunks_meet_expectations(lake, resource, broken):
    lake.replace("clean_documents", rows_to_table("clean_documents", [document()]), keys=["00"])
    lake.replace("document_shards", rows_to_table("document_shards", [chunk()]), keys=["00"])
    assert chunks_meet_expectations(resource).passed
    bad = rows_to_table("document_shards", [chunk(**broken)])
    lake.replace("document_shards", bad, keys=["00"])
    assert not chunks_meet_expectations(resource).passed


def test_an_unusual_corpus_warns():
    with dg.DagsterInstance.ephemeral() as instance:
        context = dg.build_asset_check_context(instance=instance)
        assert "0 earlier builds" in corpus_is_as_usual(context).description
        for documents in (100, 101, 102, 103, 104, 105, 20):
            measured = {MEASURES: dg.MetadataValue.json({"documents": documents})}
            instance.report_runless_asset_event(
                dg.AssetMaterialization("duplicates", metadata=measured)
            )
            result = corpus_is_as_usual(context)
            assert result.passed == (documents > 20)
            assert result.severity is dg.AssetCheckSeverity.WARN
        assert "documents is 20" in result.description
        assert result.metadata["builds"].value == 6


def test_builds_that_changed_no_document_are_not_compared_with():
    with dg.DagsterInstance.ephemeral() as instance:
        context = dg.build_asset_check_context(instance=instance)

        def build(documents: int, digest: str):
            measured = {
                MEASURES: dg.MetadataValue.json({"documents": documents}), MEASURED_OF: digest
            }  # fmt: skip
            instance.report_runless_asset_event(
                dg.AssetMaterialization("duplicates", metadata=measured)
            )
            return corpus_is_as_usual(context)

        for _ in range(8):
            result = build(100, "the same")
            assert result.metadata["builds"].value == 0
        for number in range(5):
            result = build(101 + number, f"edit {number}")
        assert result.metadata["builds"].value == 5
        assert build(20, "lost").metadata["builds"].value == 6
        again = build(20, "lost")
        assert again.metadata["builds"].value == 6 and not again.passed


def test_the_firewall_reads_the_table_itself(lake, resource):
    lake.overwrite("golden_set", rows_to_table("golden_set", [golden()]))
    lake.overwrite("sft_dataset", rows_to_table("sft_dataset", [row(1), row(2)]))
    assert no_golden_item_in_training(resource).passed
    leaked = row(3, question="how hot should the water for green tea be")
    lake.overwrite("sft_dataset", rows_to_table("sft_dataset", [row(1), leaked]))
    assert not no_golden_item_in_training(resource).passed
    answered = row(4, answer="About eighty degrees, since boiling water makes it bitter!")
    lake.overwrite("sft_dataset", rows_to_table("sft_dataset", [row(1), answered]))
    assert not no_golden_item_in_training(resource).passed


def test_the_firewall_reads_the_pairs_too(lake, resource):
    def pair(**changes):
        fields = {"id": "p", "question": "How cold is iced tea?", "context": [SHA], "traces": ["t"]}
        words = {"chosen": "As cold as its ice.", "rejected": "Lukewarm.", "source": "rating"}
        return rows_to_table("preference_pairs", [fields | words | changes])

    lake.overwrite("golden_set", rows_to_table("golden_set", [golden()]))
    lake.overwrite("preference_pairs", pair())
    assert no_golden_item_in_preferences(resource).passed
    for leaked in (
        pair(question="how hot should the water for green tea be"),
        pair(chosen="About eighty degrees, since boiling water makes it bitter!"),
        pair(rejected="About eighty degrees, since boiling water makes it bitter!"),
    ):
        lake.overwrite("preference_pairs", leaked)
        assert not no_golden_item_in_preferences(resource).passed


def test_no_restricted_document_is_taught_or_shown(lake, resource):
    shown = chunk(id="shown", uri="drinks:///menu.md", access=["internal", "restricted"])
    rows = rows_to_table("document_shards", [chunk(), shown])
    lake.replace("document_shards", rows, keys=["00"])
    pair = {"id": "p", "question": "Why?", "chosen": "a", "rejected": "b", "source": "rating"}
    for check, name, sound in (
        (no_restricted_rows, "sft_dataset", row(1)),
        (no_restricted_pairs, "preference_pairs", pair | {"context": [SHA], "traces": ["t"]}),
    ):
        lake.overwrite(name, rows_to_table(name, [sound]))
        assert check(resource).passed
        bad = [sound, sound | {"id": "bad", "context": [SHA, "shown"]}]
        lake.overwrite(name, rows_to_table(name, bad))
        result = check(resource)
        assert not result.passed
        assert result.metadata["restricted_rows"].value == 1
        assert "bad" in result.metadata["rows"].value
        assert "menu" in result.metadata["rows"].value
    lake.overwrite("sft_dataset", rows_to_table("sft_dataset", [row(1, uri="drinks:///menu.md")]))
    assert not no_restricted_rows(resource).passed


def test_enough_rows_to_train(lake, resource):
    lake.overwrite("sft_dataset", rows_to_table("sft_dataset", [row(1), row(2)]))
    assert enough_rows_to_train(resource).passed
    lake.overwrite("sft_dataset", rows_to_table("sft_dataset", [row(1), row(2, chunk_id="")]))
    assert not enough_rows_to_train(resource).passed
    lake.overwrite("sft_dataset", rows_to_table("sft_dataset", [row(1)]))
    assert not enough_rows_to_train(resource).passed


def test_provisional_questions_alone_warn(lake, resource):
    lake.overwrite("golden_set", rows_to_table("golden_set", [golden()]))
    assert golden_set_is_curated(resource).passed
    lake.overwrite("golden_set", rows_to_table("golden_set", [golden(provisional=True)]))
    result = golden_set_is_curated(resource)
    assert not result.passed and result.severity is dg.AssetCheckSeverity.WARN
