"""Composition root: the stages in order. The one module that imports every layer."""

import dagster as dg

from assets import (
    datasets,
    documents,
    embeddings,
    evaluation,
    jobs,
    monitoring,
    release,
    sources,
    training,
    warehouse,
)
from assets.checks import datasets as dataset_checks
from assets.checks import documents as document_checks
from assets.checks import evaluation as evaluation_checks
from assets.checks import training as training_checks
from assets.policies import await_ancestors
from headwater.settings import Settings
from resources.environment import resources
from sensors.alerts import alert_delivery, failed_checks, failed_runs, lasting_conditions
from sensors.arrivals import arrivals_sensor
from sensors.automation import automation
from sensors.drift import drift

STAGES = [documents, warehouse, embeddings, datasets, training, evaluation, release, monitoring]
CHECKS = [document_checks, dataset_checks, training_checks, evaluation_checks]

defs = dg.Definitions(
    assets=await_ancestors(
        [
            *sources.source_assets,
            sources.document_verdicts,
            *dg.load_assets_from_modules(STAGES, include_specs=True),
        ]
    ),
    asset_checks=dg.load_asset_checks_from_modules(CHECKS),
    jobs=jobs.jobs,
    schedules=jobs.schedules,
    sensors=[
        arrivals_sensor(sources.source_entries),
        automation,
        drift,
        failed_runs,
        failed_checks,
        lasting_conditions,
        alert_delivery,
    ],
    resources=resources(Settings()),
    executor=dg.in_process_executor,
)
