"""Every setting. No other module reads the environment."""

from __future__ import annotations

import os
import re
from difflib import get_close_matches
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict
from pydantic_settings import SettingsError as SourceError

from iris_api.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping

PREFIX = "IRIS_"
SECRETS = Path("/run/secrets")
SERVICE_LINK = re.compile(r"\w+_(SERVICE_(HOST|PORT\w*)|PORT_\d+_\w+)=.*|\w+_PORT=\w+://.*")
"""Variables that Kubernetes and Docker inject for a service whose own name begins with iris."""


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Settings(BaseSettings):
    """Settings from `IRIS_*` variables, or from files of the same name in /run/secrets."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_ignore_empty=True, frozen=True, extra="forbid"
    )

    model_dir: Path = Path("model")
    """Directory of the bundle."""
    api_keys: str = ""
    """Keys as `name:sha256hex` entries, comma separated."""
    api_keys_file: Path | None = None
    """File with such entries, one a line; re-read when it changes."""
    max_rows: Annotated[int, Field(ge=1, le=1_000_000)] = 10_000
    """Most rows in one request."""
    max_body_bytes: Annotated[int, Field(ge=1)] | None = None
    """Largest body, in bytes; unset: 2 MiB, or what `max_rows` rows need if that is more."""
    max_queue_ms: Annotated[int, Field(ge=1)] = 1000
    """Longest wait, at a proxy that sends X-Request-Start or in our queue, in ms; then 503."""
    drain_seconds: Annotated[float, Field(ge=0, le=600, allow_inf_nan=False)] = 1.0
    """From SIGTERM until connections are refused; /health/ready is 503 and all else is served."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Least severe log line that is written."""
    trusted_proxies: Annotated[tuple[str, ...], NoDecode] = ("127.0.0.1", "::1")
    """Addresses or networks whose X-Forwarded-* headers are believed, comma separated."""
    host: str = "127.0.0.1"
    """Address to listen on."""
    port: Annotated[int, Field(ge=0, le=65535, validation_alias="PORT")] = 8000
    """Port to listen on; 0 takes a free one."""
    workers: Annotated[int, Field(ge=1, le=1024, validation_alias="WEB_CONCURRENCY")] = Field(
        default_factory=_cores
    )
    """Worker processes; unset: one per core."""

    @field_validator("log_level", mode="before")
    @classmethod
    def _any_case(cls, value: Any) -> Any:
        return value.lower() if isinstance(value, str) else value

    @field_validator("trusted_proxies", mode="before")
    @classmethod
    def _comma_separated(cls, value: Any) -> Any:
        return tuple(part.strip() for part in value.split(",")) if isinstance(value, str) else value

    @field_validator("host")
    @classmethod
    def _an_address_without_a_port(cls, value: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9.-]+", value):
            ip_address(value)
        return value

    @field_validator("trusted_proxies")
    @classmethod
    def _networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for part in value:
            ip_network(part)
        return value

    def _without_the_key_file_as_keys(self) -> Self:
        """Clear `api_keys` if its secret file is in fact the key file, which has the same name."""
        name = variable("api_keys").lower()
        if (
            str(self.api_keys_file).lower() == f"{SECRETS}/{name}"
            and name.upper() not in os.environ
        ):
            return self.model_copy(update={"api_keys": ""})
        return self

    @classmethod
    def read(cls) -> Self:
        """The settings of this process.

        Raises:
            SettingsError: for an unknown `IRIS_*` name or a value that can't be used.
        """
        secrets = SECRETS if SECRETS.is_dir() else None
        _refuse_unknown(os.environ)
        _refuse_unknown(_secret_files(secrets))
        try:
            return cls(_secrets_dir=secrets)._without_the_key_file_as_keys()
        except SourceError as error:
            raise SettingsError(f"a file in {SECRETS} can't be read: {error.__cause__}") from error
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            message = first["msg"].removeprefix("Value error, ")
            raise SettingsError(f"{variable(str(first['loc'][0]))}: {message}") from error


def variable(field: str) -> str:
    """Name of the environment variable that sets a field."""
    alias = (
        Settings.model_fields[field].validation_alias if field in Settings.model_fields else field
    )
    return str(alias) if alias else PREFIX + field.upper()


def _secret_files(directory: Path | None) -> dict[str, str]:
    """Names of the secret files, without files that a variable points to by their path."""
    paths = directory.iterdir() if directory else ()
    return {path.name: "" for path in paths if str(path) not in os.environ.values()}


def _refuse_unknown(environment: Mapping[str, str]) -> None:
    known = [variable(field) for field in Settings.model_fields]
    for name, value in environment.items():
        if not name.upper().startswith(PREFIX) or SERVICE_LINK.fullmatch(f"{name}={value}"):
            continue
        if name.upper() not in known:
            near = get_close_matches(name.upper(), known, n=1, cutoff=0)[0]
            raise SettingsError(f"{name} is not a setting: the nearest is {near}")


def run_by_flask_command() -> bool:
    """Whether this process runs a `flask` command instead of a server."""
    return os.environ.get("FLASK_RUN_FROM_CLI") == "true"


def listener_is_inherited() -> bool:
    """Whether the listening socket comes from systemd or from the server that this one replaces."""
    return not {"GUNICORN_FD", "LISTEN_FDS"}.isdisjoint(os.environ)
