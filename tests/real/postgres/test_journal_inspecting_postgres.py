"""The suite of the same name over PostgreSQL."""

from tests.unit.journal.test_journal_inspecting import *  # noqa: F403 - its tests and fixtures are collected here once more
