"""When the automation asks for an asset: on the changes of its inputs, and not in their midst."""

import dagster as dg
import pytest

from assets.policies import await_ancestors, on_change


@pytest.fixture
def instance():
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


class Chain:
    """clean -> golden -> report and clean -> embeddings (by shard) -> index -> report, evaluated."""

    def __init__(self, instance, wrap=await_ancestors):
        self.instance = instance
        self.version = "1"
        self.cursor = None
        shards = dg.StaticPartitionsDefinition(["00"])

        def make(name, deps, partitions=None):
            @dg.asset(
                name=name, deps=deps, automation_condition=on_change, partitions_def=partitions
            )
            def made():
                return dg.MaterializeResult(data_version=dg.DataVersion(self.version))

            return made

        self.assets = wrap(
            [
                make("clean", [], shards),
                make("embeddings", ["clean"], shards),
                make("golden", ["clean"]),
                make("index", ["embeddings"]),
                make("report", ["index", "golden"]),
            ]
        )
        self.defs = dg.Definitions(self.assets)
        self.tick()
        self.make("clean", "embeddings")
        self.make("golden", "index", "report")
        self.tick()
        self.version = "2"

    def make(self, *names):
        key = "00" if names[0] in ("clean", "embeddings") else None
        selection = [dg.AssetKey(name) for name in names]
        assert dg.materialize(
            self.assets, selection=selection, instance=self.instance, partition_key=key
        ).success

    def tick(self):
        """What is asked for now."""
        result = dg.evaluate_automation_conditions(
            self.defs, instance=self.instance, cursor=self.cursor
        )
        self.cursor = result.cursor
        asked = (each for each in result.results if not each.true_subset.is_empty)
        return {each.key.to_user_string() for each in asked}

    def running(self, name):
        """A run that has started and will make one shard of an asset."""
        job = self.defs.resolve_implicit_global_asset_job_def()
        return self.instance.create_run_for_job(
            job_def=job.get_subset(asset_selection={dg.AssetKey(name)}),
            asset_selection=frozenset({dg.AssetKey(name)}),
            status=dg.DagsterRunStatus.STARTED,
            tags={"dagster/partition": "00"},
        )


def half_changed(chain):
    """A change has reached `golden`'s input, and `embeddings` is being made of it; what is asked."""
    chain.make("clean")
    run = chain.running("embeddings")
    return run, chain.tick()


def test_a_report_waits_while_what_its_index_is_made_of_is_being_made(instance):
    chain = Chain(instance)
    run, asked = half_changed(chain)
    assert asked == {"golden"}
    chain.make("golden")
    assert chain.tick() == set(), "index follows embeddings, and report both"
    chain.make("embeddings")
    instance.report_run_canceled(run)
    assert chain.tick() == {"index", "report"}, "together, once"
    chain.make("index", "report")
    assert chain.tick() == set()


def test_without_it_the_report_is_asked_for_in_between(instance):
    """What this is for: Dagster's own conditions look at direct parents only."""
    _, asked = half_changed(Chain(instance, wrap=list))
    assert asked == {"golden", "report"}
