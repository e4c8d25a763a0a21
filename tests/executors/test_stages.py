"""Tables come out the same, whoever makes their rows and whoever dies of it."""

from functools import partial

import numpy as np
import psutil
import pytest

from headwater.documents import chunk, clean, stage
from headwater.documents.clean import Cleaning, clean_apart
from headwater.documents.parser_pool import ParserLimits
from headwater.documents.personal import PersonalPolicies
from headwater.embeddings.apart import EncoderApart, encode_apart, encoder_over
from headwater.embeddings.static import StaticEncoder
from headwater.errors import HeadwaterError
from headwater.executors import on_ray
from headwater.executors.choice import executor_of
from headwater.executors.inline import Inline
from headwater.executors.processes import Processes
from headwater.settings import Settings
from tests.documents.examples import PROSE
from tests.executors import tasks
from tests.executors.examples import STATIC, another, build, contents


def test_processes_make_what_one_process_makes(corpus, inline, monkeypatch):
    for module in (clean, chunk):
        monkeypatch.setattr(module, "BLOCK", 3)  # several tasks a shard
    alone, digests = inline
    with Processes(2) as executor:
        assert build(corpus, executor) == digests
        assert contents(corpus) == contents(alone)
        assert len(corpus.rows("quarantine")) == 4
        assert len(corpus.rows("duplicates")) == 2
        # Documents are parsed where they always are: in a confined child, here a worker's.
        workers = psutil.Process().children()
        parsers = [child for worker in workers for child in worker.children()]
        assert executor.started == 2
        assert any('"headwater.documents.parser_worker"' in " ".join(p.cmdline()) for p in parsers)

        corpus.write("5.md", f"# Another pier\n\n{PROSE}")
        corpus.write("empty.txt", PROSE)
        corpus.write("guide.html", b"")
        (corpus.folder / "3.md").unlink()
        edited = build(corpus, executor)
    assert edited == build(alone)
    assert contents(corpus) == contents(alone)
    assert edited == build(another(corpus, "fresh"))

    with Processes(2) as executor:
        assert build(corpus, executor) == edited
        assert executor.started == 0, "nothing has changed"


def test_workers_that_die_in_mid_run_change_nothing(corpus, inline, tmp_path, monkeypatch):
    for module, name in ((clean, "clean_apart"), (chunk, "split_apart")):
        real = f"{module.__name__}:{name}"
        dying = partial(tasks.dying_once, str(tmp_path / name), real)
        monkeypatch.setattr(module, name, dying)
    alone, digests = inline
    with Processes(2) as executor:
        assert build(corpus, executor) == digests
        assert executor.lost == 2
    assert contents(corpus) == contents(alone)


def test_a_killed_build_goes_on_with_another_executor(corpus, inline, monkeypatch):
    """What is committed stands, whoever made it."""
    alone, digests = inline
    real = corpus.lake.replace_by
    monkeypatch.setattr(stage, "COMMIT_BYTES", 1)  # each shard is a commit

    def killed(name, files):
        version = real(name, files)
        if name == "clean_documents":
            raise KeyboardInterrupt
        return version

    monkeypatch.setattr(corpus.lake, "replace_by", killed)
    with Processes(2) as executor, pytest.raises(KeyboardInterrupt):
        build(corpus, executor)
    monkeypatch.undo()
    assert 0 < len(corpus.rows("clean_documents")) < len(alone.rows("clean_documents"))
    assert build(corpus) == digests
    assert contents(corpus) == contents(alone)


def test_a_worker_with_other_versions_refuses_documents():
    how = Cleaning(
        max_text_chars=1000,
        quality_filter="report",
        personal=PersonalPolicies(),
        limits=ParserLimits(),
    )
    with pytest.raises(HeadwaterError, match="every node"):
        clean_apart(how, [*how.made_by(), "tesseract 6"], [])


class Elsewhere(Inline):
    """One process that counts as another machine."""

    elsewhere = True


def test_texts_are_encoded_elsewhere_where_there_is_an_elsewhere():
    encoder = StaticEncoder(STATIC)
    assert encoder_over(Inline(), encoder, STATIC) is encoder
    with Processes(1) as executor:
        assert encoder_over(executor, encoder, STATIC) is encoder
    apart = encoder_over(Elsewhere(), encoder, STATIC)
    assert isinstance(apart, EncoderApart)
    texts = [f"Berth {number} costs {number} crowns." for number in range(150)]
    np.testing.assert_allclose(apart.encode(texts), encoder.encode(texts), atol=1e-6)
    assert apart.encode([]).shape == (0, 64)
    with pytest.raises(HeadwaterError, match="other weights or tokens"):
        encode_apart(STATIC, "of another model", texts)


def test_settings_choose_the_executor(monkeypatch):
    assert isinstance(executor_of(Settings()), Inline)
    monkeypatch.setenv("HEADWATER_EXECUTOR", "processes")
    with executor_of(Settings(workers=1)) as executor:
        assert isinstance(executor, Processes)
        assert list(executor.map(len, ["ab", "c"])) == [2, 1]
    with executor_of(Settings(workers=1)) as again:  # the next stage finds the workers there
        assert list(again.map(len, ["abc"])) == [3]
    assert again is executor
    assert executor.started == 1
    chosen = Settings(executor="ray")
    monkeypatch.setattr(on_ray, "find_spec", lambda name: None)
    with pytest.raises(HeadwaterError, match=r"pip install 'headwater\[ray\]'"):
        executor_of(chosen)
    monkeypatch.setattr(on_ray, "find_spec", lambda name: name)
    assert isinstance(executor_of(chosen), on_ray.OnRay)
