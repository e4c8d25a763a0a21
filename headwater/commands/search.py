"""`headwater search`: a retrieval playground on an index. Parses and prints."""

from typing import Annotated, Any, Literal

import typer

from headwater.commands.common import Json, console, plain, print_json, reports_errors
from headwater.settings import Settings

#: As `headwater.embeddings.retrieve.Mode`, which would import the store to show a help text.
_Mode = Literal["dense", "bm25", "fused"]
#: A person reads tens of passages at most.
_MOST = 100
#: Characters of a passage on a screen; --json has it whole.
_SHOWN = 240
_CHUNK = {
    "same": "as indexed",
    "moved": "elsewhere in the document now",
    "changed": "changed since it was indexed",
    "gone": "not in the lake any more",
}


@reports_errors
def search(
    question: Annotated[str, typer.Argument(help="What to look for, in quotes.")],
    *,
    mode: Annotated[
        _Mode, typer.Option(help="By meaning, by words, or by both, as answers do.")
    ] = "fused",
    k: Annotated[int, typer.Option("--k", "-k", min=1, max=_MOST, help="Passages.")] = 5,
    index: Annotated[
        str | None, typer.Option(help="A version, or its beginning; default is what serves.")
    ] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Why each passage stands where it stands.")
    ] = False,
    as_json: Json = False,
) -> None:
    """The passages that an index has for a question; no model is asked to answer it.

    Searches as the release that serves does. With --explain: the rank and score of each retriever,
    the fusion's arithmetic, what a reranker moved, the words that BM25 matched, whether a prompt
    would show the passage, and which document it is from.
    """
    from headwater.serving.search import search as look

    found = look(Settings(), question, mode=mode, limit=k, index=index, whole=explain)
    _show(found)
    if as_json:
        print_json(found)


def _show(found: dict[str, Any]) -> None:
    release = f" of release {found['release'][:12]}" if found["release"] else ""
    console.print(
        f"index [bold]{found['index'][:12]}[/bold]{release}, {found['points']:,} passages,"
        f" {found['mode']}"
    )
    if "words" in found:
        _show_question(found)
    for hit in found["hits"]:
        _show_hit(hit, found)
    if not found["hits"]:
        console.print("No passage has any of these words.")


def _show_question(found: dict[str, Any]) -> None:
    words = [
        f"{word} {'in no passage' if idf is None else f'{idf:.2f}'}"
        for word, idf in found["words"].items()
    ]
    console.print(f"  words, idf  {plain(', '.join(words)) or 'none'}", soft_wrap=True)
    if found["least_similarity"] is not None:
        first = found["prompt_passages"]
        takes = f"the first {first}" if first is not None else "the first"
        console.print(
            f"  a prompt    takes of {takes} those with a cosine of at least"
            f" {found['least_similarity']:.3f}, and the best whatever it has"
        )


def _show_hit(hit: dict[str, Any], found: dict[str, Any]) -> None:
    console.print(
        f"\n[bold]{hit['rank']:>3}[/bold]  {hit['score']:.4f}  {plain(hit['heading'])}"
        f"  [dim]{plain(hit['uri'])} bytes {hit['start']}-{hit['end']}[/dim]",
        soft_wrap=True,
    )
    depth = found["retrieval"]["depth"]
    places = [
        f"{name} {place['rank']} ({place['score']:.3f})"
        if (place := hit[name])
        else f"{name} not in the first {depth}"
        for name in ("dense", "bm25")
        if hit[name] or "document" in hit or found["mode"] == "fused"
    ]
    console.print(f"     ranks   {', '.join(places)}")
    if found["retrieval"].get("reranker") and found["mode"] == "fused":
        console.print(f"     rerank  {_moved(hit, found['retrieval'])}")
    if "document" in hit:
        _show_why(hit, found["retrieval"])
    text = " ".join(hit["text"].split())
    cut = text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
    console.print(f"     {plain(cut)}", soft_wrap=True)


def _moved(hit: dict[str, Any], retrieval: dict[str, Any]) -> str:
    """What the reranker did with a passage."""
    if (moved := hit["reranked"]) is None:
        return f"not among the first {retrieval['rerank_first']}, not looked at"
    kind = retrieval["reranker"].partition("/")[0]
    return f"{moved['before']} to {moved['after']}, by {kind} {moved['score']:.4f}"


def _show_why(hit: dict[str, Any], retrieval: dict[str, Any]) -> None:
    if hit["fusion"]:
        k, dense = retrieval["rrf_k"], retrieval["dense_weight"]
        weights = {"dense": dense, "bm25": 1 - dense}
        sums = [f"{weights[name]:g} x {k + 1}/({k}+{hit[name]['rank']})" for name in hit["fusion"]]
        console.print(f"     fusion  {' + '.join(sums)} = {sum(hit['fusion'].values()):.4f}")
    terms = [
        f"{term['word']} {term['idf']:.2f} x {term['weight']:.2f} = {term['score']:.2f}"
        if term["idf"] is not None
        else f"{term['word']} ? x {term['weight']:.2f}"
        for term in hit["terms"]
    ]
    console.print(f"     words   {plain(', '.join(terms)) or 'none of them'}", soft_wrap=True)
    if hit["similarity"] is not None:
        verdict = "near enough" if hit["kept"] else "[yellow]too far, not shown[/yellow]"
        console.print(f"     cosine  {hit['similarity']:.3f}, {verdict}")
    document = hit["document"]
    facts = [document["source"], document["media_type"], document["licence"]]
    if document["size"] is not None:
        facts.append(f"{document['size']:,} bytes")
    facts += [f"access {', '.join(document['access'])}"] if document["access"] else []
    if document["stands_for"]:
        facts.append(f"stands for {', '.join(document['stands_for'])}")
    facts.append(_CHUNK[document["chunk"]])
    told = ", ".join(fact for fact in facts if fact)
    console.print(f"     from    {plain(told)}", soft_wrap=True)
