"""Every kind of bad input ends with text or a reason, and its neighbours are as they would be."""

import os

import pytest

from benchmarks.bad_inputs import NEIGHBOURS, Canaries, bad_inputs, mutants
from benchmarks.hostile import Hostile
from headwater.documents.kinds.base import MEDIA_TYPES
from headwater.documents.parsed import Rejected
from headwater.documents.parser_pool import ParserLimits, ParserPool
from tests.documents.examples import Corpus

KINDS = 25


@pytest.fixture(scope="module")
def canaries(tmp_path_factory):
    canaries = Canaries(tmp_path_factory.mktemp("outside"))
    canaries.plant()
    return canaries


@pytest.fixture(scope="module")
def kinds(canaries):
    return bad_inputs(canaries, duplicates=5)


def test_25_kinds_and_mutants_of_each(kinds, canaries):
    assert len(kinds) == KINDS
    found = {}
    with ParserPool(ParserLimits(seconds=120)) as pool:
        hostile = Hostile(pool, canaries)
        for kind, every in kinds.items():
            files = [file for file in every if file.name != "words.pdf"]  # it takes half a minute
            for file in files:
                found[kind, file.name] = hostile.give(kind, file)
            for file in mutants(kind, files, 1):
                hostile.give(kind, file)
    report = hostile.report()
    assert report["faults"] == []
    assert report["crashes"] == []
    assert report["neighbours"] == report["documents"] > 100
    ends = {
        key: outcome.reason if isinstance(outcome, Rejected) else "accepted"
        for key, outcome in found.items()
    }
    assert not any(end.startswith("parser_") for end in ends.values())
    expected = {
        ("zero bytes", "a.pdf"): "empty",
        ("sparse file", "a.txt"): "empty",
        ("truncated PDF", "1.pdf"): "truncated_pdf",
        ("encrypted PDF", "a.pdf"): "encrypted_pdf",
        ("PDF with JavaScript or a file", "a.pdf"): "accepted",
        ("PDF decompression bomb", "blanks.pdf"): "damaged_pdf",
        ("PDF decompression bomb", "lines.pdf"): "accepted",
        ("PDF decompression bomb", "cells.pdf"): "accepted",
        ("wrong extension", "html.pdf"): "damaged_pdf",
        ("wrong extension", "exe.txt"): "undecodable",
        ("10 MB line", "a.txt"): "too_large",
        ("100,000-deep JSON", "a.txt"): "accepted",
        ("100,000-deep JSON", "a.html"): "too_deep",
        ("HTML with scripts", "a.html"): "accepted",
        ("near-duplicates", "3.txt"): "accepted",
    }
    assert {key: ends[key] for key in expected} == expected
    page = found["HTML with scripts", "a.html"]
    assert "twelve crowns" in page.text
    assert not any(word in page.text for word in ("alert", "127.0.0.1", "onerror", "Ignore"))
    hidden = found["hidden characters", "a.txt"].text
    assert hidden.startswith("ignore evil all")
    assert "\U000e006f" not in hidden


def test_the_stages_stand_a_folder_of_them(corpus: Corpus, kinds, canaries):
    expected, untouched = {}, canaries.state
    for name, text in NEIGHBOURS.items():
        corpus.write(name, text)
    corpus.build()
    for row in corpus.rows("clean_documents"):
        expected[row["uri"]] = row["digest"]
    slow = {
        "PDF decompression bomb", "regex explosion", "10 MB line", "pixel bomb",
        "100,000-deep JSON", "cyclic PDF page tree",
    }  # fmt: skip
    names = set()
    for number, kind in enumerate(sorted(kinds.keys() - slow)):
        for file in kinds[kind]:
            if file.name[file.name.rindex(".") :] in MEDIA_TYPES:
                corpus.write(f"{number}/{file.name}", file.content)
                names.add(f"{number}/{file.name}")
    with (corpus.folder / "sparse.txt").open("wb") as sparse:
        os.truncate(sparse.fileno(), 2 * 2**30)
    (corpus.folder / "link.txt").symlink_to(canaries.paths[0])
    (corpus.folder / "odd\n name ; rm -rf $(x) \udcff.txt").write_text("Text with an odd name.")

    corpus.raw(max_bytes=16 * 2**20)
    stats = corpus.clean(children=2)
    corpus.chunk()
    documents = {row["uri"]: row for row in corpus.rows("clean_documents")}
    assert {uri: documents[uri]["digest"] for uri in expected} == expected
    reasons = corpus.reasons()
    assert reasons["sparse.txt"] == "too_large"
    accepted = {uri.removeprefix("docs:///") for uri in documents}
    assert names <= accepted | reasons.keys()
    assert not any(reason.startswith("parser_") for reason in reasons.values())
    assert "link.txt" not in accepted | reasons.keys()
    assert len(accepted) + len(reasons) == len(names) + len(NEIGHBOURS) + 2
    assert stats.quarantined == len(reasons) - 1
    assert not any(canaries.secret in row["text"] for row in documents.values())
    assert canaries.state == untouched
