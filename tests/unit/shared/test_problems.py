"""Errors as answers."""

import json

import pytest
from aiohttp.test_utils import make_mocked_request

from shared.clickhouse.exception_codes import SchemaMismatch
from shared.http.problems import problem_response


def test_S66_an_error_of_ours_that_is_none_of_the_callers_tells_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    error = SchemaMismatch("Code: 62. Syntax error in SELECT secret")

    answer = problem_response(make_mocked_request("GET", "/x"), error, "an id")

    assert isinstance(answer.body, bytes)
    problem = json.loads(answer.body)
    assert (answer.status, problem["status"], problem["requestId"]) == (500, 500, "an id")
    assert "secret" not in answer.body.decode()
    assert "secret" in caplog.text
