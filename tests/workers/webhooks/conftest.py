"""Fixtures: the whole service, running for the tests of a module."""

from tests.harness.running_service import running

__all__ = ["running"]
