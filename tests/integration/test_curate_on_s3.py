"""The whole flow with its store and its output on a real S3 server, twice."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.integration.conftest import curate
from tests.prefect_server import PrefectServer
from tests.seaweed import S3Server

pytestmark = [pytest.mark.server, pytest.mark.real_model]


def artifacts_of_the_last_run(server: PrefectServer) -> dict[str, str]:
    (run,) = server.post("flow_runs/filter", {"sort": "START_TIME_DESC", "limit": 1})
    return {a["key"]: a["data"] for a in server.artifacts(run["id"]) if a["key"]}


def test_a_second_run_on_s3_computes_nothing_and_says_so_in_ui_and_report(
    prefect_server: PrefectServer, s3_server: S3Server, bucket: str, tmp_path: Path
) -> None:
    server = prefect_server.with_environment(**s3_server.environment, XDG_CACHE_HOME=str(tmp_path / "cache"))
    settings = ("corpus.max_rows=40", "evaluation.sentences=8", "evaluation.prompts=2")
    first = curate(server, f"{bucket}/store", f"{bucket}/output", *settings)
    assert first.returncode == 0, first.stdout + first.stderr

    again = curate(server, f"{bucket}/store", f"{bucket}/output", *settings)
    assert again.returncode == 0, again.stdout + again.stderr
    assert ": 0 made," in again.stdout
    assert "made in" not in again.stdout + again.stderr
    shown = artifacts_of_the_last_run(prefect_server)
    rows = json.loads(shown["curate-shakespeare-store"])
    assert {row["Kind"] for row in rows} >= {"corpus", "embeddings", "selection", "training", "report"}
    assert all(row["Made"] == "0" and int(row["Found"]) > 0 for row in rows)
    assert "Since the last run" in shown["curate-shakespeare-summary"]
    page = s3_server.filesystem().cat_file(f"{bucket}/output/report/index.html").decode()
    assert "Since the last run" in page and "Seconds saved" in page

    for secret in (s3_server.environment["AWS_ACCESS_KEY_ID"], s3_server.environment["AWS_SECRET_ACCESS_KEY"]):
        kept = [path for path in s3_server.filesystem().find(bucket) if path.endswith((".json", ".html", ".md"))]
        assert kept and not any(secret.encode() in s3_server.filesystem().cat_file(path) for path in kept)
        assert secret not in first.stdout + first.stderr + again.stdout + again.stderr
