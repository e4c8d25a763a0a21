"""`benchmarks.html_docs`: every file of a folder is somewhere, and a lost one is noticed."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.bad_inputs import BadFile
from benchmarks.html_docs import (
    FATES,
    MIXED,
    Trial,
    fact_questions,
    measure,
    show,
    try_docs,
    try_mixed,
    unlisted,
)
from benchmarks.mixed import FACTS, PICTURES, document, write
from headwater.base_model import TINY
from headwater.documents.kinds.base import MEDIA_TYPES
from headwater.documents.parse import parse, programs
from headwater.documents.sources import FolderSource
from headwater.lake import rows_to_table
from headwater.settings import Settings

BAD = [
    BadFile(name="empty.md", content=b""),
    BadFile(name="half.pdf", content=b"%PDF-1.7\n1 0 obj\n"),
    BadFile(name="no-book.epub", content=b"PK\3\4 and nothing else"),
]
NOTHING: dict[str, Any] = {"mart": False, "embed": False, "answers": 0}


def settings_of(home: Path, **more: Any) -> Settings:
    return Settings(home=home, shards=2, threads=2, embedding_model="static:64", **more)


@pytest.mark.parametrize("suffix", FACTS)
def test_a_document_of_each_suffix_says_its_fact(suffix: str) -> None:
    content = document(suffix, FACTS[suffix])
    if suffix in PICTURES:
        assert len(content) > 500
        return
    text = parse(content, MEDIA_TYPES[suffix], f"mixed:///a{suffix}").text
    assert FACTS[suffix].text in " ".join(text.split())


def test_every_suffix_that_is_read_is_in_the_folder() -> None:
    assert set(FACTS) == set(MEDIA_TYPES)
    assert len({fact.title for fact in FACTS.values()}) == len(FACTS)


def test_every_file_of_a_mixed_folder_is_accounted_for(tmp_path: Path) -> None:
    settings = settings_of(tmp_path / "home")
    found = try_mixed(settings, tmp_path / "mixed", BAD, **NOTHING | {"embed": True})
    assert found["faults"] == []
    assert set(found["sound"]) == set(MEDIA_TYPES)
    pictures = "indexed" if programs() else "no_ocr"
    assert {found["sound"][suffix] for suffix in PICTURES} == {pictures}
    assert found["documents"] == len(FACTS) + 1 + 3 + len(BAD)
    assert found["documents"] == sum(found[fate] for fate in FATES)
    assert (found["unaccounted"], found["duplicates"], found["filtered"]) == (0, 3, 0)
    assert found["reasons"]["exact duplicate"] == 2
    assert found["reasons"]["near duplicate"] == 1
    assert found["reasons"]["empty"] == found["reasons"]["truncated_pdf"] == 1
    assert found["not_documents"] == {"hidden": 1, ".csv": 1, ".zip": 1}
    assert found["search"]["questions"] == len(FACTS) - len(PICTURES)
    assert found["search"]["ndcg_at_10"]["bm25"]["mean"] > 0.5
    said = show("mixed", found)
    assert f"{found['documents']} documents = {found['indexed']} indexed, 3 duplicates" in said
    assert "FAULT" not in said


def test_a_document_without_chunks_and_one_that_is_nowhere_are_faults(tmp_path: Path) -> None:
    write(tmp_path / "mixed")
    trial = Trial(settings_of(tmp_path / "home"), FolderSource(name=MIXED, path=tmp_path / "mixed"))
    trial.build()
    trial.account()
    assert trial.faults == []
    for table in ("document_shards", "clean_documents"):
        shard = trial.settings.shard_keys()[0]
        trial.lake.replace(table, rows_to_table(table, []), keys=[shard])
        trial.account()
        assert trial.faults, table
        trial.faults.clear()
    (tmp_path / "mixed" / "late.md").write_text("# Late\n\nNobody has read this yet.\n")
    trial.account()
    assert any("are listed" in fault for fault in trial.faults)


def test_the_documentation_may_be_narrowed(tmp_path: Path) -> None:
    folder = tmp_path / "docs"
    (folder / "_sources").mkdir(parents=True)
    (folder / "a.html").write_text("<h1>Piers</h1><p>Boats wait at the outer pier until the day.")
    (folder / "_sources" / "a.rst.txt").write_text("Piers\n=====\n\nAnother text on boats.\n")
    (folder / "search.js").write_text("x")
    settings = settings_of(tmp_path / "home")
    found = try_docs(settings, folder, ["*.html"], **NOTHING)
    assert (found["documents"], found["indexed"], found["faults"]) == (1, 1, [])
    assert found["not_documents"] == {".js": 1, "not included": 1}
    whole = FolderSource(name="docs", path=folder)
    assert unlisted(whole) == {".js": 1}


def test_the_base_model_answers_through_an_endpoint(
    tmp_path: Path, furnished: Callable[[Path], Path]
) -> None:
    (tmp_path / "mixed").mkdir()
    (tmp_path / "mixed" / "ferry.md").write_bytes(document(".md", FACTS[".md"]))
    settings = settings_of(furnished(tmp_path / "home"), base_model=TINY)
    trial = Trial(settings, FolderSource(name=MIXED, path=tmp_path / "mixed"))
    items = fact_questions({".md": "ferry.md"})
    found = measure(trial, lambda: items, mart=False, embed=False, answers=1)
    (answer,) = found["answers"]
    assert answer["question"] == FACTS[".md"].question
    assert isinstance(answer["answer"], str)
    assert found["search"]["questions"] == 1, "to answer it is indexed"
    assert "1 answers" in show("mixed", found)
