"""Index versions in folders, by Qdrant Edge: the real engine in process, no server.

An Edge folder is locked by one process and written even by readers. So a version is built beside,
closed, and published by one rename; whoever reads works on a private copy; what is published never
changes, and `index.json` holds the digest of each of its files.
"""

import os
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from headwater.documents.row_digests import as_column, hex_digests, of_column
from headwater.embeddings import bm25
from headwater.embeddings.folders import (
    Copied,
    Stamp,
    age,
    copy_folder,
    distrust,
    folder_digests,
    stamp,
)
from headwater.embeddings.store import (
    BATCH,
    DENSE,
    MARGIN,
    POINTS,
    SPARSE,
    BuildStats,
    Contents,
    Point,
    Vector,
    batches,
    no_version,
    point_key,
    to_hits,
)
from headwater.errors import IntegrityError
from headwater.files import ABANDONED_S, new_folder, read_json, write_json
from headwater.progress import track
from headwater.records import Hit, digest_file, short

if TYPE_CHECKING:
    from qdrant_edge import EdgeConfig, EdgeShard

MANIFEST, SHARD, LIST = "index.json", "shard", "points.parquet"
#: Vectors of an immutable segment, and files of such a segment that the engine never writes again.
_IMMUTABLE = f"segments/*/vector_storage-{DENSE}/matrix.dat"
_NEVER_WRITTEN = re.compile(
    r"segments/([^/]+)/(?:vector_storage-[^/]+/matrix\.dat|id_tracker\.mappings"
    r"|vector_index-[^/]+/(?:inverted_index\.dat|links_compressed\.bin|graph\.bin)"
    r"|(?:payload_storage|vector_storage-[^/]+/store)/page_\d+\.dat)"
)
#: The engine makes segments above 10 MB of vectors immutable, and there deleted points count in word
#: frequencies until they are cleaned up. Up to this size each update cleans up (2 s for 12,000
#: points), so that scores are those of a full build; above, when a fifth is deleted.
EXACT_POINTS = 20_000
#: Vectors that are indexed at a time, as a segment of the engine's: what bounds the memory of a build,
#: which is several times that. A version is published whole, so there is no write-ahead log.
PART_BYTES = 96 * 2**20
#: The share of a part up to which an update merges what it brings with what is there, a quarter more at
#: most, and leaves it without an index. Otherwise one in a few small updates would index a large part
#: again, and one in three what the three have brought. To compare all of 22 MB took a search 0.3 ms at
#: most, of 1.7.
_SMALL = 1 / 4


class EdgeStore:
    """Versions below one folder.

    Args:
        root: folder that holds a folder for each version.
        threads: search threads of an open index.
    """

    def __init__(self, root: Path, *, threads: int = 2) -> None:
        self.root = root
        self.threads = threads

    def versions(self) -> list[str]:
        """Published versions, the newest last."""
        manifests = self.root.glob(f"[!.]*/{MANIFEST}")
        found = sorted((path.stat().st_mtime_ns, path.parent.name) for path in manifests)
        return [version for _, version in found]

    def renew(self, version: str) -> None:
        """Make a published version the newest, by the time of its manifest."""
        self._manifest(version)
        os.utime(self.root / version / MANIFEST)

    def build(self, version: str, contents: Contents, *, base: str | None = None) -> BuildStats:
        """Build a version, from a copy of `base` where one is given, and publish it."""
        if (self.root / version / MANIFEST).is_file():
            return BuildStats(points=self._manifest(version)["points"], added=0, removed=0)
        self._sweep()
        if base is not None and self._manifest(base).get("made_with", "") != contents.made_with:
            base = None
        # A build that died, and left what it had made, may have died of what it did not read.
        believing = not any(self.root.glob(".*.partial-*"))
        with new_folder(self.root / version) as work, ThreadPoolExecutor(1, "beside") as beside:
            # The engine takes as long to open a shard as it takes to see what it lacks.
            opening = beside.submit(self._begin, base, work / SHARD, contents, believing=believing)
            try:
                gone, changed = _difference(self._present(base), contents.points)
                copied, shard = opening.result()
            except BaseException:
                opening.add_done_callback(_close_again)
                raise
            # Asking the engine for all of them takes it seconds.
            listing = beside.submit(_write_list, contents.points, work / LIST)
            try:
                points = self._fill(shard, work / SHARD, contents, gone, changed, base=base)
            except Exception:
                if base is not None:
                    self.verify(base)  # damage that was not looked for may be why
                raise
            if base is not None:
                self._check_merged(base, copied, work / SHARD)
            if points != len(contents.points):
                raise IntegrityError(
                    f"Index {short(version)} has {points} points, not {len(contents.points)}.",
                    mend="Run the build again; if it persists, remove the earlier versions.",
                )
            manifest = {
                "version": version,
                "points": points,
                "dimension": contents.dimension,
                "made_with": contents.made_with,
                "files": folder_digests(work / SHARD, copied.unchanged(work / SHARD)),
                "stamps": self._stamps(work / SHARD),
                "list": listing.result(),
            }
            write_json(work / MANIFEST, manifest)
        return BuildStats(points=points, added=len(changed), removed=len(gone))

    def open(self, version: str) -> "EdgeIndex":
        """Open a private copy of a version, its digests checked."""
        from qdrant_edge import EdgeShard

        self._sweep()
        place = self.root / ".open"
        place.mkdir(parents=True, exist_ok=True)
        copy = Path(tempfile.mkdtemp(dir=place, prefix=f"{os.getpid()}-"))
        try:
            manifest = self._manifest(version)
            self._copy(version, copy / SHARD)
            config = self._config(manifest["points"], manifest["dimension"])
            shard = EdgeShard.load(str(copy / SHARD), config)
        except BaseException:
            shutil.rmtree(copy, ignore_errors=True)
            raise
        return EdgeIndex(version, shard, copy)

    def delete(self, version: str) -> None:
        """Remove a version: hidden by a rename first, so that nobody sees half of one."""
        folder = self.root / version
        if folder.exists():
            doomed = Path(tempfile.mkdtemp(dir=self.root, prefix=".deleted-"))
            folder.replace(doomed / version)
            shutil.rmtree(doomed, ignore_errors=True)

    def verify(self, version: str) -> None:
        """Compare every file with its digest. Raises IntegrityError where one differs."""
        manifest = self._manifest(version)
        shard = self.root / version / SHARD
        _check(version, shard, manifest["files"], folder_digests(shard))
        self._list(version, manifest)

    def _begin(
        self, base: str | None, folder: Path, contents: Contents, *, believing: bool
    ) -> "tuple[Copied, EdgeShard]":
        """A shard to make a version in, as it is in `base`, open; and what was copied."""
        copied = Copied({}, {})
        if base is not None:
            copied = self._copy(base, folder, believing=believing)
        try:
            return copied, self._shard(folder, contents, base)
        except Exception:
            if base is not None:
                self.verify(base)  # damage that was not looked for may be why
            raise

    def _fill(
        self,
        shard: "EdgeShard",
        folder: Path,
        contents: Contents,
        gone: Sequence[str],
        changed: Sequence[int],
        *,
        base: str | None,
    ) -> int:
        """Make a shard hold some contents, and close it; gives how many points it has.

        Args:
            folder: that it is in.
            gone: ids of the points that it has and shall not have.
            changed: rows of the contents that it lacks, or has otherwise. All of such a point is written:
                what the folder has of it may be damaged, and nobody would see.
            base: the version that it began as.
        """
        from qdrant_edge import UpdateOperation

        since = 0
        try:
            if base is not None and (gone or changed):
                # Of a point that it has, the engine would first copy all, to write over it.
                new = contents.points["id"].take(pa.array(changed, pa.int64())).to_pylist()
                ids = map(point_key, [*gone, *(each.hex() for each in new)])
                shard.update(UpdateOperation.delete_points([*ids]))
            total, points = -(-len(changed) // BATCH), contents.fetch(changed)
            for rows in track(batches(changed), what="indexing (batches of chunks)", total=total):
                if since * contents.dimension * 4 >= PART_BYTES:
                    # What is mapped stays in memory until it is closed, so a part at a time.
                    _finish(shard)
                    shard, since = self._shard(folder, contents, base), 0
                some = [_point(point) for point in islice(points, len(rows))]
                shard.update(UpdateOperation.upsert_points(some))
                since += len(rows)
            count = int(shard.info().points_count)
        except BaseException:
            shard.close()
            raise
        _finish(shard)
        return count

    def _shard(self, folder: Path, contents: Contents, base: str | None) -> "EdgeShard":
        """The shard in a folder, to be changed; a new one where there is none."""
        from qdrant_edge import EdgeShard

        if folder.exists():
            count, small = len(contents.points), PART_BYTES * _SMALL if base is not None else None
            config = self._config(count, contents.dimension, small=small)
            return EdgeShard.load(str(folder), config)
        folder.mkdir()
        config = self._config(len(contents.points), contents.dimension, wal_enabled=False)
        return EdgeShard.create(str(folder), config)

    def _present(self, base: str | None) -> pa.Table:
        """The points that a version has, none without one."""
        if base is None:
            return POINTS.empty_table()
        table = pq.read_table(self._list(base, self._manifest(base)), use_threads=False)
        if table.schema.equals(POINTS):
            return table
        # An earlier version of Headwater wrote them in hexadecimal.
        return pa.table([as_column(hex_digests(column)) for column in table.columns], schema=POINTS)

    def _list(self, version: str, manifest: Mapping[str, Any]) -> Path:
        """A version's list of points, its digest checked."""
        folder = self.root / version
        found = {LIST: digest_file(folder / LIST)} if (folder / LIST).is_file() else {}
        _check(version, folder, {LIST: manifest.get("list", "")}, found)
        return folder / LIST

    def _copy(self, version: str, target: Path, *, believing: bool = False) -> Copied:
        """Copy a version's data, and check it on the way.

        Args:
            believing: that linked files are as they were published where their stamps say so. To read
                them all for a small change takes longer than the change. Whoever opens a version reads
                them, and one that is found damaged loses its stamp.
        """
        manifest = self._manifest(version)
        source, files = self.root / version / SHARD, manifest["files"]
        believed = {
            name: files[name]
            for name, published in manifest.get("stamps", {}).items()
            if believing and stamp(source / name) == tuple(published)
        }
        copied = copy_folder(source, target, _is_shared(source), believed)
        _check(version, source, files, copied.digests)
        return copied

    def _check_merged(self, version: str, copied: Copied, target: Path) -> None:
        """Check files that were not read, and whose data the engine has put into new ones."""
        merged = {name for name in copied.unread if not (target / name).exists()}
        if merged:
            source, files = self.root / version / SHARD, self._manifest(version)["files"]
            known = {name: digest for name, digest in files.items() if name not in merged}
            _check(version, source, files, folder_digests(source, known))

    def _stamps(self, folder: Path) -> dict[str, Stamp | None]:
        """The stamps of the files of a shard that versions share."""
        is_shared = _is_shared(folder)
        names = (path.relative_to(folder).as_posix() for path in folder.rglob("*"))
        return {name: stamp(folder / name) for name in sorted(names) if is_shared(name)}

    def _config(
        self,
        points: int,
        dimension: int,
        *,
        wal_enabled: bool | None = None,
        small: float | None = None,
    ) -> "EdgeConfig":
        """How the engine keeps a shard; what is None stays as the shard has it.

        Vectors and postings are read where they are looked at (`Cold`): an update looks at few of them,
        and would have to read all when it opens a shard. Whoever searches has just read all, for their
        digests, and finds them in the system's cache. Segments that were made otherwise, the engine
        makes again.

        Args:
            small: bytes of vectors up to which they are left without an index, and segments made one;
                default the engine's 10 MB, and what is less than two parts.
        """
        from qdrant_edge import (
            Distance,
            EdgeConfig,
            EdgeOptimizersConfig,
            EdgeSparseVectorParams,
            EdgeVectorParams,
            Memory,
            Modifier,
        )

        exact = EdgeOptimizersConfig(
            deleted_threshold=1e-6, vacuum_min_vector_number=1, default_segment_number=1
        )
        in_parts = EdgeOptimizersConfig(
            max_segment_size=int((small or PART_BYTES) * 5 / 4) // 1024,
            indexing_threshold=None if small is None else int(small) // 1024,
        )
        return EdgeConfig(
            vectors={DENSE: EdgeVectorParams(dimension, Distance.Cosine, memory=Memory.Cold)},
            sparse_vectors={
                SPARSE: EdgeSparseVectorParams(modifier=Modifier.Idf, memory=Memory.Cold)
            },
            optimizers=exact if points <= EXACT_POINTS else in_parts,
            max_search_threads=self.threads,
            wal_enabled=wal_enabled,
        )

    def _manifest(self, version: str) -> Mapping[str, Any]:
        manifest = read_json(self.root / version / MANIFEST)
        if manifest is None:
            raise no_version(version, str(self.root))
        return dict(manifest)

    def _sweep(self) -> None:
        """Remove what killed processes have left: private copies, half-built, half-deleted ones."""
        for copy in self.root.glob(".open/*-*"):
            if not psutil.pid_exists(int(copy.name.split("-")[0])):
                shutil.rmtree(copy, ignore_errors=True)
        for left in [*self.root.glob(".deleted-*"), *self.root.glob(".*.partial-*")]:
            if age(left) > ABANDONED_S:
                shutil.rmtree(left, ignore_errors=True)


class EdgeIndex:
    """An open version, on a private copy that is removed by `close`."""

    def __init__(self, version: str, shard: "EdgeShard", copy: Path) -> None:
        self.version = version
        self._shard = shard
        self._copy = copy

    def dense(self, vector: Vector, limit: int) -> list[Hit]:
        """Nearest chunks by cosine similarity."""
        return self._search(vector.tolist(), DENSE, limit)

    def bm25(self, text: str, limit: int) -> list[Hit]:
        """Best chunks by BM25."""
        from qdrant_edge import SparseVector

        indices, values = bm25.query_weights(text)
        return self._search(SparseVector(indices, values), SPARSE, limit) if indices else []

    def count(self) -> int:
        """Number of points."""
        return int(self._shard.info().points_count)

    def close(self) -> None:
        """Close the engine and remove the private copy."""
        self._shard.close()
        shutil.rmtree(self._copy, ignore_errors=True)

    def _search(self, vector: Any, using: str, limit: int) -> list[Hit]:
        from qdrant_edge import Query, QueryRequest

        found = self._shard.query(
            QueryRequest(limit + MARGIN, query=Query.Nearest(vector, using), with_payload=True)
        )
        return to_hits([(point.score, point.payload or {}) for point in found], limit)


def _difference(present: pa.Table, wanted: pa.Table) -> tuple[list[str], list[int]]:
    """Ids that a shard has and shall not have, and the rows of `wanted` that it lacks or has otherwise."""
    ids, known = wanted["id"].combine_chunks(), present["id"].combine_chunks()
    at = pc.index_in(ids, value_set=known)
    stands = at.is_valid().to_numpy(zero_copy_only=False)
    there = at.drop_null().to_numpy()
    was, now = of_column(present["digest"])[there], of_column(wanted["digest"])[stands]
    stands[stands] = (was.view(np.uint64) == now.view(np.uint64)).all(axis=1)
    gone = np.ones(len(known), bool)
    gone[there] = False
    changed: list[int] = np.flatnonzero(~stands).tolist()
    return [each.hex() for each in known.filter(pa.array(gone)).to_pylist()], changed


def _write_list(points: pa.Table, path: Path) -> str:
    """Write the list of a version's points; gives its digest."""
    pq.write_table(points, path, compression="none", use_dictionary=False, write_statistics=False)
    return digest_file(path)


def _close_again(opening: "Future[tuple[Copied, EdgeShard]]") -> None:
    """Close what was opened for nothing."""
    if opening.exception() is None:
        opening.result()[1].close()


def _finish(shard: "EdgeShard") -> None:
    """Index what was written, and leave it whole on the disk."""
    try:
        shard.optimize()
        shard.flush()
    finally:
        shard.close()


def _point(point: Point) -> Any:
    from qdrant_edge import Point as EdgePoint
    from qdrant_edge import SparseVector

    sparse = SparseVector(*bm25.document_weights(point.payload))
    return EdgePoint(
        point_key(point.id),
        {DENSE: point.vector.tolist(), SPARSE: sparse},
        {**point.payload, "digest": point.digest},
    )


def _is_shared(shard: Path) -> Callable[[str], bool]:
    """Whether a file of a shard, by its path within it, is one that the engine never writes again."""
    # A segment that has these vectors is immutable: what is deleted is noted beside, and what is new or
    # changed goes to another one.
    immutable = {path.parent.parent.name for path in shard.glob(_IMMUTABLE)}

    def is_shared(name: str) -> bool:
        found = _NEVER_WRITTEN.fullmatch(name)
        return found is not None and found[1] in immutable

    return is_shared


def _check(
    version: str, folder: Path, expected: Mapping[str, str], actual: Mapping[str, str]
) -> None:
    wrong = sorted(
        name for name in {**expected, **actual} if expected.get(name) != actual.get(name)
    )
    if wrong:
        for name in wrong:
            distrust(folder / name)
        raise IntegrityError(
            f"Index {short(version)} is damaged: {', '.join(wrong[:3])} differ from their digests.",
            mend="Delete the version's folder and run `headwater build`.",
        )
