"""The status codes are those of two other implementations."""

from __future__ import annotations

import grpc
import grpclib.const

from kmsconn.transport.grpc.framing import Status

OURS = {status.name: status.value for status in Status}


def test_names_and_numbers_are_those_of_grpcio() -> None:
    assert {code.name: code.value[0] for code in grpc.StatusCode} == OURS


def test_names_and_numbers_are_those_of_grpclib() -> None:
    assert {code.name: code.value for code in grpclib.const.Status} == OURS
