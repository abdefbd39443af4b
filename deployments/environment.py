"""What the environment of every deployed run has to say for the run to outlive its server and be missed when it dies.

The deployments carry it as the job variable `env`, so that it holds on workers of whatever kind.
"""

from __future__ import annotations

HEARTBEAT_SECONDS = 30  # the least that Prefect allows

JOB_ENVIRONMENT = {
    # a sign of life every half minute, by which `automations` tell a run whose process is gone
    "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT_SECONDS),
    # after 2, 4, 8 ... seconds: a server that is away for 8 minutes costs a run nothing but the wait
    "PREFECT_CLIENT_MAX_RETRIES": "8",
}
