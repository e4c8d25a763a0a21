"""Processes that have some shards each: beside each other on others, one of two on the same."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from headwater.documents import stage
from headwater.documents.chunk import shard_documents
from headwater.documents.clean import clean_documents
from headwater.embeddings.embed import embed_chunks
from headwater.embeddings.static import StaticEncoder
from headwater.files import read_json
from headwater.lake import Lake
from headwater.locks import Busy, Parts
from tests.documents.examples import MODEL, SHARDS, Corpus
from tests.executors.examples import STATIC, another, contents

REPOSITORY = Path(__file__).parents[2]

#: A process that runs stages on some shards of a lake, each commit when it is told to go on.
PROCESS = """
import sys
from pathlib import Path
from tests.executors.test_shards import make
from headwater.lake import Lake

class Paced(Lake):
    def _write(self, name, *rest, **more):
        print(name, flush=True)
        sys.stdin.readline()
        return super()._write(name, *rest, **more)

lake, stages, *shards = sys.argv[1:]
make(Paced(Path(lake), run="a-pod"), stages.split(","), shards)
print("done", flush=True)
"""


def make(lake: Lake, stages: list[str], shards: list[str]) -> list[str]:
    """Run stages on some shards, as their assets do; the digests that they say."""
    done = {
        "clean": lambda: clean_documents(lake, shards, 2**20, in_force=SHARDS),
        "chunk": lambda: shard_documents(lake, shards, 64, MODEL, in_force=SHARDS),
        "embed": lambda: embed_chunks(lake, shards, StaticEncoder(STATIC), in_force=SHARDS),
    }
    return [done[each]().digest for each in stages]


def begin(corpus: Corpus, stages: str, shards: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PROCESS, str(corpus.lake.root), stages, *shards],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
    )  # fmt: skip


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def go_on(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def in_turns(corpus: Corpus, stages: str) -> None:
    """Two processes with half of the shards each, in the midst of the same stages at once."""
    processes = [begin(corpus, stages, SHARDS[:2]), begin(corpus, stages, SHARDS[2:])]
    waiting = list(processes)
    try:
        commits = 0
        while waiting:
            for process, line in [(each, said(each)) for each in waiting]:
                if line == "done":
                    waiting.remove(process)
                    continue
                assert line, process.communicate()[1]
                commits += 1
                go_on(process)
        assert commits >= 6, "both had something to write while the other was at work"
        assert [each.wait() for each in processes] == [0, 0]
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def test_two_processes_with_half_of_the_shards_each_make_what_one_makes(corpus):
    stages = ["clean", "chunk", "embed"]
    alone = another(corpus, "alone")
    for each in (corpus, alone):
        each.raw()
    digests = make(alone.lake, stages, SHARDS)
    in_turns(corpus, ",".join(stages))
    # Both have remembered what they left, so whoever has all shards finds them at rest.
    for table in ("clean_documents", "document_shards", "chunk_embeddings"):
        assert set(read_json(corpus.lake.root / ".rest" / f"{table}.json")) == set(SHARDS)
    assert contents(corpus) == contents(alone)
    assert make(corpus.lake, stages, SHARDS) == digests


def test_of_two_on_the_same_shard_one_is_told_who_has_it(corpus):
    corpus.raw()
    first = begin(corpus, "clean", SHARDS[:2])
    try:
        assert said(first) == "clean_documents"
        before = corpus.lake.version("quarantine")
        with pytest.raises(Busy) as error:
            clean_documents(corpus.lake, SHARDS[1:3], 2**20)
        assert f"clean_documents (run a-pod, process {first.pid}" in error.value.what
        assert "shard 01 of the same tables" in error.value.what
        # What works on all shards does not begin beside one that works on some.
        with pytest.raises(Busy, match=f"run a-pod, process {first.pid}"):
            corpus.duplicates()
        assert corpus.lake.version("quarantine") == before
        # Who was refused holds nothing.
        clean_documents(corpus.lake, SHARDS[2:], 2**20)
        go_on(first)
        while (line := said(first)) != "done":
            assert line, first.communicate()[1]
            go_on(first)
    finally:
        first.kill()
        first.communicate()
    assert corpus.clean().processed == 0


def test_a_dead_holder_is_none_and_is_not_named(tmp_path):
    whole = Parts(tmp_path / "work.lock")
    code = (
        "import os, sys; from pathlib import Path; from headwater.locks import Parts\n"
        "parts = Parts(Path(sys.argv[1]))\n"
        "with parts.all(who='the dead'), open(os.devnull): os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "work.lock")], check=False)
    assert "the dead" in (tmp_path / "work.lock").read_text()
    with whole.some(["07"], who="the living"):
        with pytest.raises(Busy, match="the living"):
            Parts(tmp_path / "work.lock").all(who="another").__enter__()
        with Parts(tmp_path / "work.lock").some(["08"], who="beside"):
            pass
    with whole.all(who="all"), pytest.raises(Busy, match=r"cannot begin: all .*the same tables"):
        Parts(tmp_path / "work.lock").some(["07"], who="another").__enter__()


def test_shards_that_are_no_more_are_emptied_by_one(corpus):
    corpus.raw()
    corpus.clean()
    fewer = Corpus(corpus.folder, corpus.lake, shards=2)
    fewer.raw()
    for shards, emptied in ((["00"], set()), (["01"], {"02", "03"})):
        before = stage.held_shards(corpus.lake, "clean_documents")
        clean_documents(corpus.lake, shards, 2**20, in_force=["00", "01"])
        assert before - stage.held_shards(corpus.lake, "clean_documents") == emptied
