"""Fixtures of the fault tests: a project for each test."""

from uuid import uuid4

import pytest


@pytest.fixture
def project() -> str:
    """A project that no other test has."""
    return f"p-{uuid4().hex[:12]}"
