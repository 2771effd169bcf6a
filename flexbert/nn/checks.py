"""Checks that several configs share."""

from __future__ import annotations

from flexbert.errors import ConfigError


def check_positive(key: str, value: float) -> None:
    """Raises: ConfigError unless ``value > 0``."""
    if value <= 0:
        raise ConfigError(key, f"must be positive, got {value}")


def check_probability(key: str, value: float) -> None:
    """Raises: ConfigError unless ``0 <= value < 1``."""
    if not 0 <= value < 1:
        raise ConfigError(key, f"must be at least 0 and below 1, got {value}")
