"""Judges what a node gives at once: the calls of a batch, the blocks of logs, the history. Pure."""

from __future__ import annotations

from kmsconn.doctor.diagnosis import Diagnosis, fault, ok, warning
from kmsconn.doctor.nodes import LARGEST_BATCH, LogRange

SMALLEST_BATCH = 3
"""Calls that the reader puts in a batch: head, kept block and logs."""


def judge_batch(node: str, size: int, refusal: str) -> Diagnosis:
    """Judge the largest batch that a node answers."""
    checked = f"{node}: calls in a batch"
    if size >= LARGEST_BATCH:
        return ok(checked, f"{size}")
    if size < SMALLEST_BATCH:
        return fault(checked, f"none is answered: {refusal}", "name a node that takes JSON-RPC batches")
    return warning(
        checked, f"{size} at most: {refusal}", f"raise the node's limit to {LARGEST_BATCH} calls a batch"
    )


def judge_log_range(node: str, found: LogRange) -> Diagnosis:
    """Judge how many blocks of logs a node gives at once."""
    checked = f"{node}: blocks of eth_getLogs"
    if not found.given:
        return fault(checked, f"none: {found.refusal}", "name a node that serves eth_getLogs")
    if found.given < found.wanted:
        remedy = f"set get_logs_batch_size to {found.given}, or raise the node's limit"
        return warning(
            checked,
            f"{found.given} are given, {found.wanted} (get_logs_batch_size) are not: {found.refusal}",
            remedy,
        )
    return ok(checked, f"{found.given} at once")


def judge_history(node: str, block: int, option: str, refusal: str) -> Diagnosis:
    """Judge whether a node has the logs from which the connector is to begin."""
    checked = f"{node}: logs of block {block}"
    if not refusal:
        return ok(checked, "are there")
    remedy = f"name a node with the history from there on (archive), or a later {option}"
    return fault(checked, f"the connector is to begin there, and the node has none: {refusal}", remedy)
