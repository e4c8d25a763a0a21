"""The map of the index as a picture and a table of outliers. Knows the map's figures only."""

import io
from collections import Counter
from collections.abc import Mapping

import numpy as np

from headwater.embeddings.map import EmbeddingMap
from headwater.evaluation.document import Document, Picture, Table

#: Sources with a colour of their own; the rest share one.
_COLOURS = ("#4c78a8", "#f58518", "#54a24b", "#b279a2", "#9d755d", "#72b7b2")
_REST, _OUTLIER = "#9aa5b1", "#e45756"
#: Outliers in the table, the farthest; characters of a text.
LISTED, _SHOWN = 20, 100


def map_document(found: EmbeddingMap, kept: Mapping[str, str] | None = None) -> Document:
    """The map for a person: what it shows of what, the picture, the outliers.

    Args:
        kept: documents that a person said belong here, by URI: who said it.
    """
    kept = kept or {}
    texts = len(found.sources)
    first, second = found.variance
    facts = {
        "texts on the map": f"{texts:,} distinct ones of {found.chunks:,} chunks",
        "axes": f"the two along which vectors differ most, {first:.1%} and {second:.1%} of all",
        "outliers": f"{len(found.outliers):,}, whose mean cosine distance to their nearest neighbours is"
        f" above {found.fence:.3f}; the median text's is {float(np.median(found.distances)):.3f}",
    }
    header = ("distance", "document", "heading", "text", "nearest document", "belongs here, says")
    rows = [
        (
            f"{each.distance:.3f}",
            each.uri,
            each.heading,
            _cut(each.text),
            each.nearest,
            kept.get(each.uri, ""),
        )
        for each in found.outliers[:LISTED]
    ]
    title = "Outliers" if len(found.outliers) == len(rows) else f"The {len(rows)} farthest outliers"
    picture = Picture(f"Map of {texts} texts, outliers circled", map_plot(found))
    parts: list[Table | Picture] = [picture]
    if rows:
        parts.append(Table(title, header, rows))
    return Document(title="Map of the index", facts=facts, notes=[], parts=parts)


def map_plot(found: EmbeddingMap) -> bytes:
    """Texts by source, outliers circled, as PNG bytes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 5.4), layout="constrained")
    axes = figure.subplots()
    named = [name for name, _ in Counter(found.sources).most_common(len(_COLOURS))]
    groups = dict(zip(named, _COLOURS, strict=False))
    sources = np.asarray(found.sources)
    for name, colour in groups.items():
        shown = found.points[sources == name]
        axes.scatter(shown[:, 0], shown[:, 1], s=7, alpha=0.6, color=colour, label=_plain(name))
    rest = found.points[~np.isin(sources, named)]
    if len(rest):
        axes.scatter(rest[:, 0], rest[:, 1], s=7, alpha=0.6, color=_REST, label="other sources")
    far = found.points[found.distances > found.fence]
    if len(far):
        label = "outliers"
        axes.scatter(
            far[:, 0], far[:, 1], s=42, facecolors="none", edgecolors=_OUTLIER, label=label
        )
    first, second = found.variance
    axes.set(xlabel=f"axis 1, {first:.1%} of variance", ylabel=f"axis 2, {second:.1%}")
    axes.legend(loc="upper right", fontsize=8)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=90, metadata={"Software": None})
    return buffer.getvalue()


def _plain(name: str) -> str:
    """A label as it is: a leading underscore would hide it, and dollars would begin a formula."""
    return name.lstrip("_").replace("$", r"\$") or "unnamed"


def _cut(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _SHOWN else line[: _SHOWN - 1] + "…"
