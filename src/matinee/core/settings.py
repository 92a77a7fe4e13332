"""Settings: one `matinee.toml`, overridden by the environment.

`MATINEE_HOME=/srv/matinee` sets `home`; `MATINEE_SERVING__PORT=9000` sets `serving.port`. `{data}`,
`{logs}` and `{run}` in a URL stand for the home's three roots.
"""

from pathlib import Path
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from matinee.core.errors import ConfigurationError

CONFIG_FILE = "matinee.toml"


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class StreamSettings(_Section):
    """How lines of the stream are read."""

    timezone: str = "UTC"
    """IANA name of the zone that a line's local time is in."""

    @field_validator("timezone")
    @classmethod
    def _known(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (KeyError, ValueError, OSError) as error:
            raise ValueError(f"unknown time zone {value!r}; use an IANA name such as Europe/Berlin") from error
        return value


class LogSettings(_Section):
    """The event log."""

    url: str = "sqlite:///{data}/log.sqlite"
    """`sqlite:///PATH` or `kafka://HOST:PORT/TOPIC?option=value`."""


class IngestSettings(_Section):
    """What `matinee ingest` shows of itself, and when it raises an alarm."""

    metrics_port: Annotated[int, Field(ge=0, le=65_535)] = 0
    """Loopback port of this role's `/metrics`; 0: none. Of several on one machine, each needs its own."""
    lag_seconds: Annotated[float, Field(gt=0)] = 60.0
    """Seconds from when the log took a record until it is read, above which there is an alarm."""
    quarantine_share: Annotated[float, Field(ge=0, le=1)] = 0.05
    """The share of the latest thousand records or more that are quarantined, above which there is an alarm."""


class LakeSettings(_Section):
    """The lake, and how often ingest commits to it."""

    url: str = "{data}/lake"
    """A local folder."""
    commit_seconds: Annotated[float, Field(gt=0)] = 3.0
    """Seconds after which what was taken in is committed."""
    commit_rows: Annotated[int, Field(gt=0)] = 200_000
    """Rows after which it is committed before that."""
    retention_days: Annotated[int, Field(gt=0)] | None = None
    """Days of event time after which rows are deleted; nothing is unless this is set; untimed rows stay."""
    compact_after_commits: Annotated[int, Field(gt=0)] = 200
    """Commits after which small files are joined and a checkpoint is written."""
    keep_versions_days: Annotated[int, Field(gt=0)] = 7
    """Days for which every version of a table can be read again."""
    keep_watches_days: Annotated[int, Field(gt=0)] | None = 40
    """Days after receipt that single watch events stay; then `watch_days` has their minutes. Unset: they stay."""
    maintain_minutes: Annotated[float, Field(gt=0)] = 60.0
    """Minutes after which the lake is maintained though there were fewer commits."""


class HistorySettings(_Section):
    """What each user did lately."""

    url: str = "lmdb:///{data}/history"
    """`lmdb:///PATH`."""
    poll_seconds: Annotated[float, Field(gt=0, le=0.1)] = 0.05
    """Seconds between two polls of the log; history is written at each."""


class TrainingSettings(_Section):
    """One run of training."""

    model: str = "als"
    """The model that `matinee train` fits unless told otherwise; `auto` compares `candidates`."""
    candidates: tuple[str, ...] = ("als", "ease", "item_knn", "rp3beta", "bpr")
    """What `auto` compares; what does not suit the data is passed over."""
    prefer_live: bool = True
    """Whether the best that servers fold users into goes before a better one, where one of them passes."""
    split: Literal["auto", "random", "time", "last"] = "auto"
    """How the evaluation's test part is held out; `auto`: `last` where times are known, else `random`."""
    test_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """The share of interactions held out."""
    positive_rating: float = 4.0
    """A rating at or above this counts as liking; watching without a rating always does."""
    seed: int = 0
    """Seed of splits, models and bootstrap."""
    threads: Annotated[int, Field(gt=0)] = 2
    """Processor cores a model may use where it can."""
    bootstrap_resamples: Annotated[int, Field(ge=100)] = 2_000
    """Resamples of users behind the gate's confidence interval."""
    top_n: Annotated[int, Field(gt=0, le=1_000)] = 100
    """Recommendations kept for every user in the bundle."""
    keep_bundles: Annotated[int, Field(gt=1)] = 5
    """Bundles kept besides those in use; older ones are deleted."""


class ScheduleSettings(_Section):
    """What happens at set times."""

    train: str = "0 * * * *"
    """When `matinee schedule` trains: a crontab's minute, hour, day, month, weekday (`mon`), UTC; empty: never."""


class ServingSettings(_Section):
    """The HTTP service."""

    host: str = "127.0.0.1"
    """Address to listen on; loopback unless told otherwise."""
    port: Annotated[int, Field(ge=0, le=65_535)] = 8082
    """Port to listen on."""
    reload_seconds: Annotated[float, Field(gt=0)] = 0.5
    """Seconds between looks for a new release."""
    deadline_ms: Annotated[float, Field(gt=0)] = 100.0
    """Milliseconds from a request's arrival after which the simplest answer at hand is given."""
    rerank: Literal["mmr", "calibrated"] = "mmr"
    """What diversity means: `mmr`, items unlike each other; `calibrated`, the user's own mix of genres."""
    diversity: Annotated[float, Field(ge=0, le=1)] = 0.0
    """How much diversity counts against the score, unless a request says otherwise; 0 not at all."""
    most_of_one_genre: Annotated[float, Field(ge=0, le=1)] = 1.0
    """The share of a list's items that one genre may have, while there are others."""
    explore_share: Annotated[float, Field(ge=0, le=1)] = 0.0
    """The share of a list's items that are drawn from uncertain and new ones."""
    telemetry_queue: Annotated[int, Field(gt=0)] = 20_000
    """Answers that may wait to be written to the log; more are dropped and counted."""
    telemetry_seconds: Annotated[float, Field(gt=0)] = 0.2
    """Seconds between two writes of waiting answers."""
    fold_in_cache_megabytes: Annotated[int, Field(ge=0, le=65_536)] = 256
    """Megabytes under `run/` for the fold-ins that all servers of a host share; 0: none are kept."""
    shed_late_ms: Annotated[float, Field(gt=0)] = 50.0
    """Milliseconds that requests wait for their turn at which nothing is scored; at twice that, no history read."""
    drain_seconds: Annotated[float, Field(ge=0)] = 2.0
    """Seconds that requests are still answered for after SIGTERM, while `/readyz` says 503."""
    require_key_everywhere: bool = False
    """Whether `/recommend/<user>` and the health endpoints want an API key too; `/v1` always does."""
    max_body_bytes: Annotated[int, Field(ge=1_024, le=100_000_000)] = 1_000_000
    """Bytes of a request's body; a longer one is refused (413) before it is read."""
    max_header_bytes: Annotated[int, Field(ge=1_024, le=1_000_000)] = 16_384
    """Bytes of a request's headers together; more are refused (431)."""
    max_target_bytes: Annotated[int, Field(ge=256, le=65_536)] = 8_192
    """Bytes of a request's path and query; more are refused (414)."""
    receive_seconds: Annotated[float, Field(gt=0)] = 10.0
    """Seconds within which a request's headers, and then its body, must have come (408)."""


class UpSettings(_Section):
    """`matinee up`: several servers behind a balancer, on one machine."""

    replicas: Annotated[int, Field(gt=0, le=64)] = 2
    """Servers: each a process of its own and an entry of the balancer."""
    host: str = "127.0.0.1"
    """Address the balancer listens on, `*` for all; loopback unless told otherwise."""
    port: Annotated[int, Field(gt=0, le=65_535)] = 8080
    """Port the balancer listens on."""
    server_port: Annotated[int, Field(ge=0, le=65_000)] = 8101
    """Port of the first server, on loopback; the others follow. 0 takes free ones at each start."""
    stats_port: Annotated[int, Field(ge=0, le=65_535)] = 8404
    """Loopback port of the balancer's statistics and its `/metrics`; 0 takes a free one at each start."""
    tls_certificate: Path | None = None
    """PEM file with certificate, chain and key: the balancer then speaks TLS, with HSTS."""
    client_requests_per_second: Annotated[int, Field(ge=0)] = 1_000
    """Requests of one address, over ten seconds, above which the balancer answers 429; 0: no limit."""
    connections: Annotated[int, Field(gt=0)] = 20_000
    """Clients' connections open at once, as far as the limit of open files allows."""


class SimulationSettings(_Section):
    """The world that `matinee up` may add, for trying things out."""

    viewers: Annotated[int, Field(ge=0)] = 0
    """Viewers of that world; 0: there is none."""
    movies: Annotated[int, Field(gt=0, le=48_000)] | None = None
    """Movies; unset: 27 for each 1,000 viewers, at least 300."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Seed of all that is drawn."""
    minutes_a_second: Annotated[float, Field(gt=0)] = 60.0
    """How fast it lives until it has reached the present; it begins 30 days ago."""
    past_ratings: Annotated[float, Field(ge=0)] = 20.0
    """Ratings of the average viewer from before it begins."""
    dirt: Annotated[float, Field(ge=0, le=1)] = 0.001
    """The share of its lines that are dirty."""
    apis_port: Annotated[int, Field(ge=0, le=65_535)] = 8190
    """Loopback port of its APIs that describe movies and viewers; 0 takes a free one at each start."""
    train: str = "*/10 * * * *"
    """When `matinee schedule` trains while there is a world, in place of `schedule.train`."""


class MetadataSettings(_Section):
    """The HTTP APIs that describe items and users; `matinee metadata` asks them."""

    item_url: str = ""
    """URL of an item's description, `{id}` in the place of its id; empty: items are not asked for."""
    user_url: str = ""
    """The same of a user's."""
    requests_per_second: Annotated[float, Field(gt=0)] = 10.0
    """Requests a second to both together, evenly spaced."""
    connections: Annotated[int, Field(gt=0, le=256)] = 8
    """Requests under way at once."""
    timeout_seconds: Annotated[float, Field(gt=0)] = 5.0
    """Seconds within which an answer must have come whole."""
    max_age_days: Annotated[float, Field(gt=0)] = 30.0
    """Days after which what is described is asked for again."""
    unknown_days: Annotated[float, Field(gt=0)] = 7.0
    """Days after which an id that the API did not know is asked for again."""
    metrics_port: Annotated[int, Field(ge=0, le=65_535)] = 0
    """Loopback port of this role's `/metrics`; 0: none."""

    @field_validator("item_url", "user_url")
    @classmethod
    def _has_place(cls, value: str) -> str:
        if value and not (value.startswith(("http://", "https://")) and "{id}" in value):
            raise ValueError(f"{value!r} is no URL with a place for the id, such as http://host/movie/{{id}}")
        return value


class LoggingSettings(_Section):
    """The program's own log files: JSON lines, rotated, capped."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """Lowest level written."""
    file_megabytes: Annotated[int, Field(gt=0)] = 10
    """Size at which a file is rotated."""
    files: Annotated[int, Field(gt=0)] = 5
    """Rotated files kept for each role."""


class BudgetSettings(_Section):
    """How much room each root of the home may take."""

    data_megabytes: Annotated[float, Field(gt=0)] | None = None
    """Megabytes of `data/` at which the lake takes no more until there is room; unset: what the disk holds."""
    logs_megabytes: Annotated[float, Field(gt=0)] = 500.0
    """Megabytes of `logs/` above which the oldest rotated files go."""
    reserve_megabytes: Annotated[float, Field(ge=0)] = 200.0
    """Megabytes of a disk that the lake and the log files leave free, for the event log, history and alarms."""


class Settings(BaseSettings):
    """Everything that can be set, in sections."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        env_prefix="MATINEE_",
        env_nested_delimiter="__",
        toml_file=CONFIG_FILE,
        use_attribute_docstrings=True,
    )

    home: Path = Path(".matinee")
    """The folder that everything a run keeps is under: `data/`, `logs/`, `run/`."""
    control_url: str = "sqlite:///{data}/control.sqlite"
    """SQLAlchemy URL of the database of alarms, releases and their audit."""
    mlflow_url: str = "sqlite:///{data}/mlflow.sqlite"
    """MLflow tracking URI."""
    stream: StreamSettings = StreamSettings()
    log: LogSettings = LogSettings()
    ingest: IngestSettings = IngestSettings()
    lake: LakeSettings = LakeSettings()
    history: HistorySettings = HistorySettings()
    training: TrainingSettings = TrainingSettings()
    schedule: ScheduleSettings = ScheduleSettings()
    serving: ServingSettings = ServingSettings()
    up: UpSettings = UpSettings()
    simulation: SimulationSettings = SimulationSettings()
    metadata: MetadataSettings = MetadataSettings()
    logging: LoggingSettings = LoggingSettings()
    budget: BudgetSettings = BudgetSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the signature is pydantic's
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments first, then the environment, then the file."""
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)


def load_settings(**overrides: object) -> Settings:
    """Read the settings, or raise `ConfigurationError` naming the setting that is wrong."""
    try:
        return Settings(**overrides)  # type: ignore[arg-type]  # pydantic checks them
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(str(part) for part in problem['loc'])}: {problem['msg']}" for problem in error.errors()
        )
        raise ConfigurationError(
            f"settings: {problems}", remedy=f"Mend {CONFIG_FILE} or the MATINEE_… variable of that name."
        ) from error
    except ValueError as error:
        raise ConfigurationError(
            f"{CONFIG_FILE} cannot be read: {error}", remedy="It must be valid TOML."
        ) from error
