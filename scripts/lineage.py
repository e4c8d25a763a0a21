"""Draw the warehouse's lineage as SVG, from dbt's manifest: models, and each mart's columns.

`make lineage` writes docs/pictures/warehouse-*.svg. Knows nothing of rows: columns are followed
through the models' SQL (sqlglot) with the types that their contracts promise; what an incremental
model adds for later runs narrows rows only, and is left out. Models whose SQL holds other Jinja than
that, ref() and source() it refuses.
"""

import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PICTURES = ROOT / "docs" / "pictures"
LAYERS = ("sources", "staging", "intermediate", "marts", "marts of marts", "read by")
COLOURS = {
    "sources": "#e8ecf1", "staging": "#dbe9f6", "intermediate": "#e3f1df", "marts": "#fdecd2",
    "marts of marts": "#fdecd2", "read by": "#f3e1ef",
}  # fmt: skip
WIDTH, HEIGHT, GAP, STEP = 190, 24, 70, 34

Edge = tuple[str, str]


def models_picture(manifest: Mapping[str, Any]) -> str:
    """Sources, models and exposures from left to right."""
    nodes: dict[str, tuple[str, str]] = {}
    edges: list[Edge] = []
    for unique_id, source in sorted(manifest["sources"].items()):
        nodes[unique_id] = ("sources", source["name"])
    for unique_id, node in sorted(_models(manifest).items()):
        if node["depends_on"]["nodes"]:  # a calendar has no lineage
            of_marts = any(
                parent in manifest["nodes"] and manifest["nodes"][parent]["fqn"][1] == "marts"
                for parent in node["depends_on"]["nodes"]
            )
            nodes[unique_id] = ("marts of marts" if of_marts else node["fqn"][1], node["name"])
    for unique_id, exposure in sorted(manifest["exposures"].items()):
        nodes[unique_id] = ("read by", exposure["name"])
    for unique_id in nodes:
        child = manifest["exposures"].get(unique_id) or manifest["nodes"].get(unique_id)
        edges += [(parent, unique_id) for parent in child["depends_on"]["nodes"]] if child else []

    place: dict[str, tuple[int, int]] = {}
    for column, layer in enumerate(LAYERS):
        members = [unique_id for unique_id, (its, _) in nodes.items() if its == layer]
        members.sort(key=lambda each: (_height(each, edges, place), nodes[each][1]))
        for row, unique_id in enumerate(members):
            place[unique_id] = (20 + column * (WIDTH + GAP), 40 + row * STEP)
    parts = [
        _text(20 + column * (WIDTH + GAP), 24, layer, bold=True)
        for column, layer in enumerate(LAYERS)
    ]
    parts += [
        _curve(place[parent], place[child], faint=nodes[child][0] == "read by")
        for parent, child in sorted(edges)
    ]
    parts += [_box(place[each], name, COLOURS[layer]) for each, (layer, name) in nodes.items()]
    width = len(LAYERS) * (WIDTH + GAP) - GAP + 40
    return _svg(width, max(y for _, y in place.values()) + STEP + 10, parts)


def columns_picture(manifest: Mapping[str, Any]) -> str:
    """For each mart, from which columns of its parents each of its columns is made."""
    parts: list[str] = []
    top = 16
    for unique_id, node in sorted(_models(manifest).items()):
        if node["fqn"][1] != "marts":
            continue
        origins = column_origins(manifest, unique_id)
        used = sorted({origin for found in origins.values() for origin in found})
        left = {each: (20, top + 28 + row * STEP) for row, each in enumerate(used)}
        right = {each: (560, top + 28 + row * STEP) for row, each in enumerate(origins)}
        parts.append(_text(20, top + 12, node["name"], bold=True))
        parts += [
            _curve(left[origin], right[column], width=360)
            for column, found in origins.items()
            for origin in found
        ]
        parts += [_box(left[each], each, COLOURS["staging"], width=360) for each in used]
        parts += [_box(right[each], each, COLOURS["marts"], width=260) for each in origins]
        top += 28 + max(len(used), len(origins)) * STEP + 30
    return _svg(840, top, parts)


def column_origins(manifest: Mapping[str, Any], unique_id: str) -> dict[str, list[str]]:
    """For each column of a model the columns (`model.column`) of its parents that it is made of."""
    from sqlglot import MappingSchema, exp, parse_one
    from sqlglot.lineage import lineage
    from sqlglot.optimizer import optimize

    node = manifest["nodes"][unique_id]
    schema = MappingSchema(dialect="duckdb")
    for parent in node["depends_on"]["nodes"]:
        declared = manifest["nodes"].get(parent) or manifest["sources"][parent]
        types = {name: column["data_type"] for name, column in declared["columns"].items()}
        schema.add_table(declared["name"], types, dialect="duckdb")
    query = optimize(parse_one(_plain_sql(node), dialect="duckdb"), schema=schema, dialect="duckdb")
    sql = query.sql(dialect="duckdb")
    found: dict[str, list[str]] = {}
    for column in node["columns"]:
        origins = set()
        for leaf in lineage(column, sql, schema=schema, dialect="duckdb").walk():
            table = leaf.expression.find(exp.Table)
            if not leaf.downstream and table is not None:
                origins.add(f"{table.name}.{exp.to_column(leaf.name).name}")
        found[column] = sorted(origins)
    return found


def pictures(manifest: Mapping[str, Any]) -> dict[Path, str]:
    """What to write where."""
    return {
        PICTURES / "warehouse-models.svg": models_picture(manifest),
        PICTURES / "warehouse-columns.svg": columns_picture(manifest),
    }


def _models(manifest: Mapping[str, Any]) -> dict[str, Any]:
    return {
        unique_id: node
        for unique_id, node in manifest["nodes"].items()
        if node["resource_type"] == "model"
    }


def _plain_sql(node: Mapping[str, Any]) -> str:
    """A model's SQL, as a full refresh has it, with the bare names of what it reads."""
    names = r"\{\{\s*(?:ref|source)\((?:\s*[\"']\w+[\"']\s*,)?\s*[\"'](\w+)[\"']\s*\)\s*\}\}"
    later = r"\{% if is_incremental\(\) %\}.*?\{% endif %\}"
    sql = re.sub(names, r"\1", re.sub(later, "", node["raw_code"], flags=re.DOTALL))
    if "{{" in sql or "{%" in sql:
        raise ValueError(f"{node['name']}: only ref() and source() are understood")
    return sql


def _height(child: str, edges: Iterable[Edge], place: Mapping[str, tuple[int, int]]) -> float:
    """Where a node's parents are on average, so that fewer lines cross."""
    parents = [place[parent][1] for parent, its in edges if its == child and parent in place]
    return sum(parents) / len(parents) if parents else 0.0


def _box(at: tuple[int, int], name: str, colour: str, *, width: int = WIDTH) -> str:
    x, y = at
    box = f'<rect x="{x}" y="{y}" width="{width}" height="{HEIGHT}" rx="4" fill="{colour}"/>'
    return box + _text(x + 8, y + 16, name)


def _curve(
    start: tuple[int, int], end: tuple[int, int], *, width: int = WIDTH, faint: bool = False
) -> str:
    x, y, to_x, to_y = start[0] + width, start[1] + HEIGHT // 2, end[0], end[1] + HEIGHT // 2
    bend = (x + to_x) // 2
    dashes = ' stroke-dasharray="2 4"' if faint else ""
    return f'<path d="M{x} {y}C{bend} {y} {bend} {to_y} {to_x} {to_y}"{dashes}/>'


def _text(x: int, y: int, text: str, *, bold: bool = False) -> str:
    weight = ' font-weight="bold"' if bold else ""
    return f'<text x="{x}" y="{y}"{weight}>{escape(text)}</text>'


def _svg(width: int, height: int, parts: Sequence[str]) -> str:
    style = "text{font:12px sans-serif;fill:#1c2430}path{fill:none;stroke:#9aa5b1}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}"'
        f' height="{height}"><style>{style}</style><rect width="100%" height="100%" fill="#fff"/>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


if __name__ == "__main__":
    import json

    sys.path.insert(0, str(ROOT))
    from resources.warehouse import manifest

    for path, content in pictures(json.loads(manifest().read_text("utf-8"))).items():
        path.write_text(content, "utf-8")
        print(path.relative_to(ROOT))
