"""Settings: everything an operator may choose, read from the environment (and `.env`), nowhere else.

Two of them, `AFTERGLOW_DATABASE_URL` and `AFTERGLOW_BROKER_URL`, turn the embedded product into the distributed
one. Secrets of sources are read by name, because each source file says which variables hold its own.
"""

import os
from collections.abc import Mapping
from functools import cached_property
from ipaddress import ip_address
from urllib.parse import urlsplit

from dotenv import dotenv_values
from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from afterglow.errors import AfterglowError


class SettingsError(AfterglowError):
    """A setting is missing or cannot be understood."""


class Settings(BaseSettings):
    """What the operator decides. Names in the environment carry the prefix `AFTERGLOW_`."""

    model_config = SettingsConfigDict(
        env_prefix="AFTERGLOW_",
        env_file=".env",
        extra="ignore",
        frozen=True,
        ignored_types=(cached_property,),
    )

    #: SQLAlchemy URL. SQLite runs everything in one process; PostgreSQL any number of them.
    database_url: str = "sqlite:///afterglow.db"
    #: Redis URL for Dramatiq. Empty: Dramatiq's in-process broker, for one process.
    broker_url: str = ""
    #: Signs links in mails and keys the hashes of suppressed addresses. Never change it once mails are out.
    secret: SecretStr = SecretStr("")
    #: Opens the private pages and the API. Empty: they answer on loopback only and `POST /api/events` is closed.
    key: SecretStr = SecretStr("")
    #: Address and port of the public face: hooks and the links in mails.
    public_bind: str = "127.0.0.1:8000"
    #: Address and port of the private face: pages, API, metrics, docs.
    private_bind: str = "127.0.0.1:8001"
    #: How customers reach the public face; stands at the start of every link in a mail.
    public_url: str = "http://127.0.0.1:8000"
    #: Folder that holds the shop's `flows/` and `templates/`. Empty: this folder, else the sample shop.
    shop_dir: str = ""
    #: Of which commit the shop's files are, where their folder comes without its repository; `releases` tells it.
    commit: str = ""
    #: smtp:// or smtps:// URL. Empty: mails stay in the outbox and nothing leaves the machine.
    smtp_url: SecretStr = SecretStr("")
    #: "yes" sends to everybody. Anything else: only to the addresses of `AFTERGLOW_ALLOW`.
    live: str = "no"
    #: Addresses, or domains as @example.com, that may get mail while not live; separated by spaces.
    allow: str = ""
    #: Where Slack takes the Monday digest of leaderboards: the https:// URL of an incoming webhook. Empty: no Slack.
    slack_webhook_url: SecretStr = SecretStr("")
    #: "yes" lets sources fetch from this machine and private networks. For tests: a base may then be http://127.0.0.1.
    fetch_local: str = "no"
    #: Worker threads in each worker process.
    threads: int = Field(default=8, ge=1, le=64)
    #: Days for which the raw bodies of webhooks are kept.
    keep_webhooks_days: int = Field(default=30, ge=1, le=365)

    @field_validator("database_url")
    @classmethod
    def _psycopg(cls, url: str) -> str:
        """`postgres://` and `postgresql://` both mean psycopg 3 here."""
        for prefix in ("postgres://", "postgresql://"):
            if url.startswith(prefix):
                return "postgresql+psycopg://" + url.removeprefix(prefix)
        return url

    @field_validator("slack_webhook_url")
    @classmethod
    def _encrypted(cls, url: SecretStr) -> SecretStr:
        """The address is a secret itself, so it is never sent in the clear."""
        if url.get_secret_value() and not url.get_secret_value().startswith("https://"):
            raise ValueError("must begin with https://")
        return url

    @field_validator("public_url")
    @classmethod
    def _without_slash(cls, url: str) -> str:
        return url.rstrip("/")

    @property
    def is_public(self) -> bool:
        """Whether `public_url` can lead here from anywhere but this very machine."""
        host = (urlsplit(self.public_url).hostname or "").rstrip(".")
        try:
            return not ip_address(host).is_loopback
        except ValueError:
            return host not in ("", "localhost")

    @property
    def embedded(self) -> bool:
        """True when one process holds everything."""
        return not self.broker_url

    @cached_property
    def secrets(self) -> tuple[bytes, ...]:
        """Keys for tokens and hashes: the first signs, all verify.

        Raises:
          SettingsError: when no secret is set, or one is shorter than 16 characters.
        """
        keys = tuple(word.encode() for word in self.secret.get_secret_value().split())
        if not keys:
            raise SettingsError(
                "AFTERGLOW_SECRET is not set; it signs the links in mails: put 32 random characters in the "
                "environment or in .env (python3 -c 'import secrets; print(secrets.token_urlsafe(32))')."
            )
        if any(len(key) < 16 for key in keys):
            raise SettingsError("AFTERGLOW_SECRET is too short; use at least 16 random characters.")
        return keys

    def may_mail(self, address: str) -> bool:
        """The staging guard: whether this address may get a real mail from this installation."""
        if self.live == "yes":
            return True
        address = address.lower()
        domain = address[address.rfind("@") :]
        return any(allowed in (address, domain) for allowed in self.allow.lower().split())


def load_settings(**overrides: object) -> Settings:
    """Read the settings.

    Raises:
      SettingsError: naming every variable that cannot be understood, and why.
    """
    try:
        return Settings(**overrides)  # type: ignore[arg-type]
    except ValidationError as error:
        told = "; ".join(f"AFTERGLOW_{str(e['loc'][0]).upper()}: {e['msg']}" for e in error.errors())
        raise SettingsError(f"The settings cannot be used: {told}.") from None


def source_secrets(names: tuple[str, ...], environ: Mapping[str, str] | None = None) -> tuple[bytes, ...]:
    """The secrets of a source: each named variable may hold several, separated by spaces, for rotation."""
    environ = _environment() if environ is None else environ
    return tuple(word.encode() for name in names for word in environ.get(name, "").split())


def _environment() -> Mapping[str, str]:
    """The environment over `.env`, so that the secrets of sources may stand where our own settings do."""
    file = Settings.model_config.get("env_file")
    written = dotenv_values(file) if isinstance(file, str) else {}
    return {name: value for name, value in written.items() if value is not None} | dict(os.environ)
