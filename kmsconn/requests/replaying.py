"""Asks the Core for the answer to a request once more, and sends and keeps nothing: for an operator who compares."""

from __future__ import annotations

from functools import partial

from kmsconn.errors import Forgotten, Rejected
from kmsconn.journal.values import Row
from kmsconn.model.requests import Request
from kmsconn.model.steps import Answered, Checked, Submitted
from kmsconn.requests.pipeline import Pipeline
from kmsconn.requests.rows import operation_of, request_of
from kmsconn.requests.stage_runner import within


async def answer_again(pipeline: Pipeline, row: Row) -> Answered:
    """Return what the Core answers to the request of a row now; one that it has forgotten is handed to it again.

    Key management is refused: handing over would begin a generation. Raises as the stages do, and Rejected, StageTimeout.
    Cancellation: at any time. Repeating: the Core gives a finished answer any number of times.
    """
    if not operation_of(pipeline.profile, row).expires:
        raise Rejected(f"only decryptions are asked for again, and this is {row.kind}")
    request = request_of(pipeline.profile, row)
    try:
        return await _answer(pipeline, Submitted(request))
    except Forgotten:
        return await _answer(pipeline, await _submit(pipeline, row, request))


async def _answer(pipeline: Pipeline, submitted: Submitted) -> Answered:
    return await within(pipeline.deadlines.answer, "answer", partial(pipeline.stages.answer, submitted))


async def _submit(pipeline: Pipeline, row: Row, request: Request) -> Submitted:
    """Hand a request over without the checks: the contract has its answer by now and would say so."""
    checked = Checked(request, *request.content.context)
    stages, deadlines = pipeline.stages, pipeline.deadlines
    with pipeline.budgets[pipeline.runner.shard(row)].lease() as lease:
        gathered = await within(deadlines.gather, "gather", partial(stages.gather, checked, lease))
        return await within(deadlines.submit, "submit", partial(stages.submit, gathered))
