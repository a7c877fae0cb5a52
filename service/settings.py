"""Every knob of the service as one frozen value, read once and validated whole.

Knows no room: `app.py` and `cli.py` build it and pass plain values on.
"""

import difflib
import os
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, StringConstraints, model_validator
from pydantic_settings import BaseSettings, DotEnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from service.domain.judgement import BASE, MERGED, UNKNOWN, Policy, Waiver

PREFIX = "MINICPM_"

RESERVED_IDS = frozenset({BASE, MERGED, UNKNOWN})


def _not_reserved(name: str) -> str:
    if name in RESERVED_IDS:
        raise ValueError(f"{name!r} is what the service itself calls something; choose another name")
    return name


AdapterId = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"), AfterValidator(_not_reserved)
]
"""What an adapter may be called: safe in URLs, labels and file names."""


class WaiverSetting(BaseModel):
    """A finding that the operator accepts: which check, about whom, why, and until when."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    check: str
    subject: str
    reason: Annotated[str, StringConstraints(min_length=1, strip_whitespace=True)]
    expires: date | None = None

    def to_waiver(self) -> Waiver:
        """Return the domain's noun."""
        return Waiver(self.check, self.subject, self.reason, self.expires)


class Settings(BaseSettings):
    """All settings; precedence: flag, environment, `.env`, default. `*_FILE` reads a secret from a file."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_file=".env",
        env_file_encoding="utf-8",
        env_ignore_empty=True,
        frozen=True,
        extra="ignore",
    )

    model: str = Field("demo", description="Base or merged model: a folder, a hub id, `demo` or `demo-4.5`.")
    revision: str | None = Field(None, description="Commit of the hub id; required when the model is a hub id.")
    adapters: dict[AdapterId, str] = Field(
        default_factory=dict,
        description="Adapters served unmerged, as JSON: name to a folder, or to a hub id with @commit.",
        examples=['{"NAME": "FOLDER"}'],
    )
    merged_adapter: str | None = Field(
        None, description="One adapter to merge into the base at load, in float32; excludes MINICPM_ADAPTERS."
    )
    trusted_remote_code: str | None = Field(
        None,
        description="The exact folder, or hub id with @commit, whose own code may run. Unset: no remote code.",
    )
    device: Annotated[str, StringConstraints(pattern=r"^(auto|cpu|cuda(:\d+)?)$")] = Field(
        "auto", description="auto, cpu, cuda or cuda:N. auto takes the first GPU if there is one."
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="Weight type. auto: as stored on a GPU, float32 on a CPU."
    )
    attention: Literal["auto", "eager", "sdpa", "flash_attention_2"] = Field(
        "auto", description="Attention implementation; auto leaves the choice to transformers."
    )
    quantization: Literal["none", "int8"] = Field(
        "none",
        description="int8: weights of the language model are read in 8 bits. For bfloat16 on a CPU with AVX-512 and "
        "a C compiler.",
    )

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on.")
    api_key: SecretStr | None = Field(None, description="If set, `/generate` wants it as a bearer token.")

    max_body_bytes: int = Field(20_000_000, ge=1_000, description="Largest request body.")
    max_pictures: int = Field(8, ge=0, le=256, description="Most pictures in one request.")
    max_picture_pixels: int = Field(20_000_000, ge=1, le=89_478_485, description="Most pixels in one picture.")
    max_new_tokens: int = Field(2048, ge=1, description="Most tokens that a request may ask for.")
    max_running: int = Field(
        64, ge=1, le=1024, description="Requests that are computed at once, if the memory for caches has room for them."
    )
    cache_memory: float | None = Field(
        None,
        gt=0,
        description="Memory for what is remembered of prompts, answers and pictures: a share of what is free after "
        "loading (up to 1), or bytes. Unset: 0.85 on a GPU, 0.25 on a CPU.",
    )
    max_waiting: int = Field(64, ge=0, le=10_000, description="Requests that may wait; one more is answered 429.")
    timeout_seconds: float = Field(120.0, gt=0, le=3600, description="Longest time a request may take.")
    drain_seconds: float = Field(30.0, ge=0, le=3600, description="Time for requests in flight after SIGTERM.")
    stall_seconds: float = Field(
        120.0, gt=0, description="Time without a heartbeat of the engine after which it counts as hung."
    )

    audit_policy: Policy = Field(Policy.DEFAULT, description="strict, default or permissive.")
    audit_waivers: tuple[WaiverSetting, ...] = Field(
        (),
        description='Accepted findings, as JSON: [{"check": ..., "subject": ..., "reason": ..., "expires": ...}]; '
        "the last, a date, may be left out.",
    )
    on_rejected: Literal["stay", "exit"] = Field(
        "stay", description="What to do with a refused base: stay up and say why, or exit with status 1."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level logged.")

    @model_validator(mode="after")
    def _exclude_adapters_beside_a_merged_one(self) -> Self:
        if self.merged_adapter and self.adapters:
            raise ValueError(
                "MINICPM_MERGED_ADAPTER and MINICPM_ADAPTERS exclude each other: an adapter is trained on the base, "
                "not on the base with another adapter merged in; set one of them"
            )
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read the secret files after the environment and before `.env`."""
        return init_settings, env_settings, _SecretFiles(settings_cls), dotenv_settings

    def masked(self) -> dict[str, Any]:
        """Return the effective values as JSON, secrets hidden."""
        return self.model_dump(mode="json")


class _SecretFiles(PydanticBaseSettingsSource):
    """`MINICPM_API_KEY_FILE=/run/secrets/key` sets `api_key` to the file's content."""

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:
        path = os.environ.get(f"{PREFIX}{field_name.upper()}_FILE")
        if field.annotation != SecretStr | None or not path:
            return None, field_name, False
        return Path(path).read_text(encoding="utf-8").strip(), field_name, False

    def __call__(self) -> dict[str, Any]:
        found = {name: self.get_field_value(field, name)[0] for name, field in self.settings_cls.model_fields.items()}
        return {name: value for name, value in found.items() if value is not None}


def given_variables() -> dict[str, str]:
    """Return what `.env` and the environment set; the latter wins."""
    file = DotEnvSettingsSource(Settings, env_file=Settings.model_config["env_file"]).env_vars
    return {name.upper(): value or "" for name, value in file.items()} | dict(os.environ)


def unknown_variables(environment: Mapping[str, str]) -> dict[str, str | None]:
    """Find `MINICPM_*` variables that set nothing.

    Args:
        environment: Usually `given_variables()`.

    Returns:
        Each unknown variable with the nearest known one, or None if nothing is near.
    """
    known = {name.upper() for name in Settings.model_fields}
    known |= {f"{name.upper()}_FILE" for name, field in Settings.model_fields.items() if _is_secret(field)}
    given = {name.removeprefix(PREFIX) for name in environment if name.startswith(PREFIX)}
    nearest = {name: next(iter(difflib.get_close_matches(name, known, 1)), None) for name in sorted(given - known)}
    return {PREFIX + name: PREFIX + near if near else None for name, near in nearest.items()}


def _is_secret(field: Any) -> bool:
    return bool(field.annotation == SecretStr | None)
