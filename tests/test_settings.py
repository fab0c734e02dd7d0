from __future__ import annotations

from pathlib import Path

import pytest

from iris_api import settings as module
from iris_api.errors import SettingsError
from iris_api.settings import Settings, run_by_flask_command


def test_without_an_environment_the_defaults_hold() -> None:
    """A new checkout runs without any setting."""
    settings = Settings.read()
    assert settings.model_dir == Path("model")
    assert (settings.host, settings.port, settings.max_rows) == ("127.0.0.1", 8000, 10_000)
    assert settings.workers >= 1


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The service has IRIS_ names; the port and the number of workers have Gunicorn's names."""
    monkeypatch.setenv("IRIS_MODEL_DIR", "/srv/wine")
    monkeypatch.setenv("IRIS_LOG_LEVEL", "WARNING")
    monkeypatch.setenv("IRIS_TRUSTED_PROXIES", "10.0.0.0/8, ::1")
    monkeypatch.setenv("PORT", "8123")
    monkeypatch.setenv("WEB_CONCURRENCY", "3")
    settings = Settings.read()
    assert settings.model_dir == Path("/srv/wine")
    assert settings.log_level == "warning"
    assert settings.trusted_proxies == ("10.0.0.0/8", "::1")
    assert (settings.port, settings.workers) == (8123, 3)


def test_settings_come_from_secret_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A mounted secret named like the variable sets it."""
    (tmp_path / "iris_api_keys").write_text(f"shop:{'0' * 64}\n")
    monkeypatch.setattr(module, "SECRETS", tmp_path)
    assert Settings.read().api_keys == f"shop:{'0' * 64}"


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("PORT", "http", "PORT: Input should be a valid integer"),
        ("PORT", "70000", "PORT: Input should be less than or equal to 65535"),
        ("WEB_CONCURRENCY", "0", "WEB_CONCURRENCY: Input should be greater than"),
        ("IRIS_MAX_ROWS", "many", "IRIS_MAX_ROWS: Input should be a valid integer"),
        ("IRIS_LOG_LEVEL", "loud", "IRIS_LOG_LEVEL: Input should be 'debug'"),
        ("IRIS_HOST", "127.0.0.1:5", "IRIS_HOST: '127.0.0.1:5' does not appear"),
        ("IRIS_TRUSTED_PROXIES", "proxy", "IRIS_TRUSTED_PROXIES: 'proxy' does not appear"),
    ],
)
def test_an_invalid_value_names_its_variable(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, message: str
) -> None:
    """The message has the name that the operator set, not the name of the field."""
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=message):
        Settings.read()


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("IRIS_MODELDIR", "IRIS_MODEL_DIR"),
        ("IRIS_API_KEY", "IRIS_API_KEYS"),
        ("IRIS_MAX_ROW", "IRIS_MAX_ROWS"),
        ("iris_max_rowz", "IRIS_MAX_ROWS"),
        ("IRIS_PORT", "IRIS_HOST"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest(
    monkeypatch: pytest.MonkeyPatch, name: str, nearest: str
) -> None:
    """A misspelt setting must not silently leave a default in place."""
    monkeypatch.setenv(name, "1")
    with pytest.raises(SettingsError, match=f"{name} is not a setting: the nearest is {nearest}"):
        Settings.read()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("IRIS_SERVICE_HOST", "10.0.0.1"),
        ("IRIS_API_SERVICE_PORT_HTTP", "80"),
        ("IRIS_PORT", "tcp://10.0.0.1:80"),
        ("IRIS_API_PORT_8000_TCP_ADDR", "10.0.0.1"),
    ],
)
def test_variables_that_kubernetes_injects_are_not_settings(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    """A service named iris or iris-api has service links that begin with IRIS_."""
    monkeypatch.setenv(name, value)
    assert Settings.read() == Settings()


def test_a_key_file_in_the_secrets_directory_is_read_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """If it also set IRIS_API_KEYS, a key revoked in it would stay valid until a restart."""
    monkeypatch.setattr(module, "SECRETS", tmp_path)
    (tmp_path / "iris_api_keys").write_text("shop:" + "0" * 64)
    assert Settings.read().api_keys
    monkeypatch.setenv("IRIS_API_KEYS_FILE", str(tmp_path / "iris_api_keys"))
    assert not Settings.read().api_keys
    monkeypatch.setenv("IRIS_API_KEYS", "other:" + "1" * 64)
    assert Settings.read().api_keys.startswith("other")


def test_an_unreadable_secret_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A secret that exists and can't be read is an error: it does not count as unset."""
    (tmp_path / "iris_api_keys").write_bytes(b"\xff\xfe")
    monkeypatch.setattr(module, "SECRETS", tmp_path)
    with pytest.raises(SettingsError, match="can't be read"):
        Settings.read()


def test_a_misspelt_secret_is_refused_unless_a_variable_points_at_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The name of a file in /run/secrets must be the name of a setting."""
    (tmp_path / "iris_keys").write_text("")
    monkeypatch.setattr(module, "SECRETS", tmp_path)
    with pytest.raises(SettingsError, match="iris_keys is not a setting"):
        Settings.read()
    monkeypatch.setenv("IRIS_API_KEYS_FILE", str(tmp_path / "iris_keys"))
    assert Settings.read().api_keys_file == tmp_path / "iris_keys"


def test_an_empty_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compose files pass an empty value for a variable that is not set."""
    for name in ("IRIS_API_KEYS_FILE", "IRIS_MODEL_DIR", "PORT"):
        monkeypatch.setenv(name, "")
    assert Settings.read() == Settings()


def test_a_misspelt_argument_is_refused() -> None:
    """A setting that does not exist is an error in code, too."""
    with pytest.raises(ValueError, match="modeldir"):
        Settings(modeldir="x")  # type: ignore[call-arg]


def test_a_flask_command_differs_from_a_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """Flask sets a variable for its commands."""
    assert not run_by_flask_command()
    monkeypatch.setenv("FLASK_RUN_FROM_CLI", "true")
    assert run_by_flask_command()
