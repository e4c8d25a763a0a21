"""Each published heuristic fails on a text made to fail it, and good prose fails none."""

import pytest

from headwater.documents.signals import findings
from tests.documents.examples import Corpus

GOOD = """The harbour of the town is older than its church, and for three centuries it was the only way in.
Fishermen built the first pier of oak, which the winter storms of a single year carried away again.

When the railway came, trade moved inland and half of the warehouses were left to the gulls and the rain.
Nobody was sorry to see the coal barges go, since their dust had turned every window on the quay black.

Today sailors tie up where the herring boats used to lie, pay a small fee at the office, and walk uphill.
From the top you can see the lighthouse, two islands, and on clear days the mountains beyond the strait.
"""


def names(text: str, language: str = "en") -> set[str]:
    return {finding.name for finding in findings(text, language)}


def test_good_prose_fails_nothing():
    assert findings(GOOD, "en") == []
    assert findings("", "und") == []


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Too short to say much.", "gopher_words"),
        ("antidisestablishmentarianism " * 60, "gopher_mean_word_length"),
        ("a b " * 60, "gopher_mean_word_length"),
        (GOOD.replace(" the ", " # "), "gopher_hashes_to_words"),
        (GOOD.replace(" the ", " ... "), "gopher_ellipses_to_words"),
        ("\n".join(f"- {line}" for line in GOOD.splitlines() if line), "gopher_bullet_lines"),
        (GOOD.replace(".\n", "...\n"), "gopher_ellipsis_lines"),
        (GOOD + "1234 5678 " * 20, "gopher_words_with_a_letter"),
        ("harbour pier oak storm gull rain " * 20, "gopher_stop_words"),
        (GOOD + "The pier is closed.\n" * 5, "gopher_repeated_lines"),
        (GOOD + GOOD, "gopher_repeated_lines_characters"),
        (GOOD.strip() + "\n\nThe pier is closed." * 4, "gopher_repeated_paragraphs"),
        (GOOD + "\n" + GOOD, "gopher_repeated_paragraphs_characters"),
        (GOOD + "ferry timetable " * 20, "gopher_top_2gram"),
        (GOOD + "last ferry timetable " * 10, "gopher_top_3gram"),
        (GOOD + "the last ferry timetable " * 8, "gopher_top_4gram"),
        (GOOD + GOOD, "gopher_repeated_5grams"),
        (GOOD + GOOD, "gopher_repeated_10grams"),
        (GOOD + "Lorem ipsum dolor.", "c4_lorem_ipsum"),
        (GOOD + "function () { return; }", "c4_curly_brackets"),
        (GOOD.replace(".", ","), "c4_sentences"),
        (GOOD.replace(".\n", "\n"), "fineweb_lines_ending_in_punctuation"),
        (GOOD + GOOD, "fineweb_repeated_line_characters"),
        (GOOD.replace(", ", ",\n").replace(" the ", "\nthe ").replace(" and ", "\nand "), "fineweb_short_lines"),
    ],
)  # fmt: skip
def test_each_heuristic(text: str, name: str):
    (finding,) = [each for each in findings(text, "en") if each.name == name]
    assert name in str(finding) and "allowed" in str(finding)


def test_stop_words_are_those_of_english():
    german = "Der Hafen öffnet um sechs Uhr und schließt mit der letzten Fähre. " * 8
    assert "gopher_stop_words" not in names(german, "de")
    assert "gopher_stop_words" in names(german, "en")


def test_report_notes_and_filter_turns_away(corpus: Corpus):
    corpus.write("good.txt", GOOD)
    corpus.write("code.txt", f"{GOOD}\nfunction () {{ return; }}")
    corpus.raw()
    assert corpus.clean().quarantined == 0
    flags = {row["uri"]: row["quality_flags"] for row in corpus.rows("clean_documents")}
    assert flags == {"docs:///good.txt": [], "docs:///code.txt": ["c4_curly_brackets"]}

    stats = corpus.clean(quality_filter="filter")
    assert (stats.processed, stats.quarantined, stats.removed) == (2, 1, 1)
    (row,) = corpus.rows("quarantine")
    assert (row["stage"], row["reason"]) == ("filter", "c4_curly_brackets")
    assert row["detail"] == "c4_curly_brackets is 1, at most 0 is allowed"
    assert corpus.clean(quality_filter="filter").processed == 0

    stats = corpus.clean(quality_filter="off")
    assert (stats.processed, stats.quarantined) == (2, 0)
    assert corpus.rows("quarantine") == []
    assert {tuple(row["quality_flags"]) for row in corpus.rows("clean_documents")} == {()}
