"""The page of the map: a picture, and outliers whose texts cannot become markup."""

import base64
import re

import numpy as np
import pytest

from headwater.embeddings.map import EmbeddingMap, Outlier
from headwater.evaluation.map_page import map_document

OUTLIER = Outlier(
    id="1", uri="docs:///a|b.md", start=0, end=400, heading="<b>Odd</b>", text="<script>x</script> " * 20,
    distance=0.71234, nearest="docs:///c.md",
)  # fmt: skip


def found(sources: list[str], *outliers: Outlier) -> EmbeddingMap:
    distances = np.linspace(0.1, 0.8, len(sources))
    return EmbeddingMap(
        points=np.random.default_rng(0).normal(size=(len(sources), 2)),
        variance=(0.25, 0.125),
        sources=tuple(sources),
        distances=distances,
        fence=0.75 if outliers else 1.0,
        outliers=outliers,
        chunks=12_345,
    )


def test_the_page_shows_the_map_and_its_outliers() -> None:
    said = map_document(found(["docs"] * 10, OUTLIER)).to_markdown()
    (picture,) = re.findall(r"data:image/png;base64,([A-Za-z0-9+/=]+)", said)
    assert base64.b64decode(picture).startswith(b"\x89PNG")
    assert "10 distinct ones of 12,345 chunks" in said and "25.0%" in said
    assert "0.712" in said and "docs:///c.md" in said
    assert "<script>" not in said and "<b>" not in said
    rows = [line for line in said.splitlines() if "0.712" in line]
    assert len(rows) == 1 and rows[0].count("…") == 1, "a long text is cut"


def test_more_outliers_than_are_listed_are_counted() -> None:
    page = map_document(found(["docs"] * 10, *[OUTLIER] * 27))
    assert "27, whose mean" in page.facts["outliers"]
    said = page.to_markdown(pictures=False)
    assert "The 20 farthest outliers" in said
    assert said.count("0.712") == 20


def test_what_a_person_said_of_an_outlier_stands_beside_it_as_text() -> None:
    kept = {OUTLIER.uri: "<i>ann</i>", "docs:///another.md": "bob"}
    said = map_document(found(["docs"] * 10, OUTLIER), kept).to_markdown(pictures=False)
    (row,) = (line for line in said.splitlines() if "0.712" in line)
    assert "ann" in row and "<i>" not in row and "bob" not in said


@pytest.mark.parametrize(
    "sources", [["a"] * 3, [f"s{n}" for n in range(9)], ["_hidden", "$x_1$", "_"]]
)
def test_any_sources_can_be_drawn_and_no_outlier_makes_no_table(sources: list[str]) -> None:
    said = map_document(found(sources)).to_markdown()
    assert "base64" in said and "##" not in said
