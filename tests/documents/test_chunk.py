from dataclasses import replace

from headwater.documents.chunk import chunks as chunks_of
from headwater.documents.split import split_text
from headwater.documents.tokens import token_counter, tokenizer_digest
from headwater.records import CleanDocument, Heading
from tests.documents.examples import MODEL, PROSE, Corpus, count_words

DOCUMENT = CleanDocument(
    uri="docs:///a.md",
    source="docs",
    shard="00",
    title="Guide",
    language="en",
    text=f"Guide\n\n{PROSE * 3}\n\nFees\n\n{PROSE * 3}",
    headings=(
        Heading(start=0, level=1, text="Guide"),
        Heading(start=len(f"Guide\n\n{PROSE * 3}\n\n"), level=2, text="Fees"),
    ),
    licence="unknown",
    input_digest="0",
    digest="1",
)


def split(document, max_tokens, count):
    return chunks_of(
        document, split_text(document.text, document.title, document.headings, max_tokens, count)
    )


def test_chunks_name_what_they_hold():
    chunks = split(DOCUMENT, 100, count_words)
    assert [chunk.ordinal for chunk in chunks] == list(range(len(chunks)))
    data = DOCUMENT.text.encode()
    for chunk in chunks:
        assert data[chunk.start : chunk.end].decode().strip() == chunk.text
    assert len({chunk.id for chunk in chunks}) == len(chunks)
    assert split(DOCUMENT, 100, count_words) == chunks


def test_an_insertion_keeps_the_names_of_what_comes_after():
    """Ids and embedding digests name content; offsets change only the stored digest."""
    before = split(DOCUMENT, 100, count_words)
    new = "A new first paragraph. " * 20
    text = DOCUMENT.text.replace("Guide\n\n", f"Guide\n\n{new}", 1)
    shifted = replace(DOCUMENT.headings[1], start=DOCUMENT.headings[1].start + len(new))
    headings = (DOCUMENT.headings[0], shifted)
    after = split(replace(DOCUMENT, text=text, headings=headings), 100, count_words)
    assert len(after) > len(before)
    assert after[-1].id == before[-1].id
    assert after[-1].embed_digest == before[-1].embed_digest
    assert after[-1].start == before[-1].start + len(new)
    assert after[-1].digest != before[-1].digest
    assert after[0].id != before[0].id


def test_whitespace_does_not_change_the_embedding_digest():
    one = split(replace(DOCUMENT, text="Some  text\nhere", headings=()), 50, count_words)
    two = split(replace(DOCUMENT, text="Some text here", headings=()), 50, count_words)
    assert one[0].embed_digest == two[0].embed_digest
    assert one[0].digest != two[0].digest


def test_a_passage_that_repeats_has_one_embedding_and_several_names():
    text = "\n\n".join([PROSE.strip()] * 4)
    chunks = split(replace(DOCUMENT, text=text, headings=()), 40, count_words)
    assert len({chunk.embed_digest for chunk in chunks}) == 1
    assert len({chunk.id for chunk in chunks}) == 4


def test_the_counter_is_the_tokenizer_without_its_fixed_length():
    count = token_counter(MODEL)
    assert count(["", "the harbour", "harbour " * 600]) == [0, 2, 600]
    assert len(tokenizer_digest(MODEL)) == 64


def test_table_of_chunks_joins_to_the_documents(three: Corpus):
    three.build()
    texts = {row["uri"]: row["text"].encode() for row in three.rows("clean_documents")}
    joined = dict.fromkeys(texts, b"")
    for row in sorted(three.rows("document_shards"), key=lambda row: (row["uri"], row["ordinal"])):
        assert len(joined[row["uri"]]) == row["start"]
        joined[row["uri"]] += texts[row["uri"]][row["start"] : row["end"]]
        assert row["tokens"] <= 64
    assert joined == texts
