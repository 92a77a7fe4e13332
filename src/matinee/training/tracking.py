"""Runs and model versions in MLflow. Imported only where a run is made."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

# Both are read when MLflow is imported. Nothing about a run leaves this machine.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")

import logging

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException

from matinee.core.errors import StoreUnavailable

EXPERIMENT = "matinee"
REGISTERED_MODEL = "matinee"


class Tracker:
    """Writes runs and model versions to an MLflow tracking server or database.

    Args:
        url: MLflow tracking URI, such as `sqlite:///PATH`.
        artifacts: folder URI that MLflow notes for the experiment; matinee keeps artefacts in bundles.

    Raises:
        StoreUnavailable: it does not answer.
    """

    def __init__(self, url: str, artifacts: str) -> None:
        for name in ("mlflow", "alembic"):  # their INFO lines on first use tell people nothing
            logging.getLogger(name).setLevel(logging.WARNING)
        with _answering(url):
            self._client = MlflowClient(tracking_uri=url, registry_uri=url)
            found = self._client.get_experiment_by_name(EXPERIMENT)
            self._experiment_id = (
                found.experiment_id if found else self._client.create_experiment(EXPERIMENT, artifacts)
            )
        self._url = url

    def record_candidate(
        self, name: str, params: dict[str, Any], metrics: dict[str, float], tags: dict[str, str], now_us: int
    ) -> str:
        """Write one candidate as a finished run; returns the run's id."""
        millis = now_us // 1_000
        with _answering(self._url):
            run = self._client.create_run(self._experiment_id, start_time=millis, run_name=name)
            self._client.log_batch(
                run.info.run_id,
                metrics=[Metric(key, value, millis, 0) for key, value in metrics.items() if value == value],  # noqa: PLR0124 - NaN
                params=[Param(key, str(value)) for key, value in params.items()],
                tags=[RunTag(key, value) for key, value in tags.items()],
            )
            self._client.set_terminated(run.info.run_id, end_time=millis)
        return str(run.info.run_id)

    def register(self, bundle: str, source: str, run_id: str) -> str:
        """Write the model version that a bundle is; returns MLflow's number for it."""
        with _answering(self._url):
            try:
                self._client.create_registered_model(REGISTERED_MODEL)
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
            version = self._client.create_model_version(REGISTERED_MODEL, source, run_id, tags={"bundle": bundle})
        return str(version.version)


@contextmanager
def _answering(url: str) -> Iterator[None]:
    try:
        yield
    except MlflowException as error:
        raise StoreUnavailable(
            f"MLflow at {url} does not answer: {error}", remedy="Check mlflow_url in the settings."
        ) from error
