"""``kmsconn health``: which URL it asks, and what becomes of the answer."""

from __future__ import annotations

import argparse
import json

import pytest

from kmsconn.operate.commands import checking


@pytest.mark.parametrize("address", ["0.0.0.0:9200", "http://127.0.0.1:9200/healthz"])
def test_a_path_is_asked_for_at_the_address_of_the_variable(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def ask(url: str) -> tuple[int, bytes]:
        asked.append(url)
        return 200, b""

    monkeypatch.setenv("KMS_CONNECTOR_MONITORING_ENDPOINT", address)
    monkeypatch.setattr(checking, "ask", ask)
    assert checking.health(argparse.Namespace(endpoint="/liveness")) == 0
    assert asked == ["http://127.0.0.1:9200/liveness"]


def executed(monkeypatch: pytest.MonkeyPatch, status: int, body: bytes) -> int:
    """Run the command against an answer."""
    monkeypatch.setattr(checking, "ask", lambda _: (status, body))
    return checking.health(argparse.Namespace(endpoint="http://127.0.0.1:1/healthz"))


@pytest.mark.parametrize(
    ("written", "url"),
    [
        ("", "http://127.0.0.1:9100/healthz"),
        ("0.0.0.0:9200", "http://127.0.0.1:9200/healthz"),
        ("[::]:9200", "http://[::1]:9200/healthz"),
        ("10.0.0.1:9200", "http://10.0.0.1:9200/healthz"),
        ("http://127.0.0.1:9100/healthz", "http://127.0.0.1:9100/healthz"),
    ],
)
def test_the_variable_is_read_as_an_address_and_as_a_url(written: str, url: str) -> None:
    assert checking.health_url({"KMS_CONNECTOR_MONITORING_ENDPOINT": written}) == url


def test_200_is_well(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert executed(monkeypatch, 200, b'{"healthy": true, "details": ""}') == 0
    assert capsys.readouterr().out == "HTTP 200: well\n"


def test_503_is_not_and_each_reason_is_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    body = json.dumps({"healthy": False, "details": "gateway: down; core[0]: is not serving"}).encode()
    assert executed(monkeypatch, 503, body) == 1
    assert capsys.readouterr().out == "HTTP 503: gateway: down\ncore[0]: is not serving\n"


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"details": null}', b"\xff"])
def test_an_answer_of_another_program_is_only_a_status(monkeypatch: pytest.MonkeyPatch, body: bytes) -> None:
    assert executed(monkeypatch, 404, body) == 1


@pytest.mark.parametrize("url", ["9100", "https://127.0.0.1:1", "http://", "http://127.0.0.1:port/"])
def test_what_is_no_url_is_wrong_usage(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert checking.health(argparse.Namespace(endpoint=url)) == 2
    assert "name it as http://HOST:PORT/healthz" in capsys.readouterr().err


def test_nobody_there_is_status_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def ask(_: str) -> tuple[int, bytes]:
        raise ConnectionRefusedError(111, "Connection refused")

    monkeypatch.setattr(checking, "ask", ask)
    assert checking.health(argparse.Namespace(endpoint="http://127.0.0.1:1/")) == 1
    assert "does not answer" in capsys.readouterr().err
