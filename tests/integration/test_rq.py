"""rq, a job queue as applications have it, on a node."""

import math
import os
import subprocess
import sys
from datetime import timedelta

import pytest
import redis
from rq import Queue, SimpleWorker
from rq.job import JobStatus


@pytest.fixture
def connection(node_port):
    with redis.Redis(port=node_port) as found:
        found.flushall()
        yield found


def test_a_worker_process_runs_jobs(connection, node_port):
    """The worker forks a process for each job, as it does in production."""
    queue = Queue("sums", connection=connection)
    jobs = [queue.enqueue(math.factorial, i) for i in range(3)]
    after = queue.enqueue(math.sqrt, 16, depends_on=jobs)
    broken = queue.enqueue(math.sqrt, -1)
    url = f"redis://127.0.0.1:{node_port}"
    command = [sys.executable, "-m", "rq.cli", "worker", "--burst", "--url", url, "sums"]
    environment = {**os.environ, "OBJC_DISABLE_INITIALIZE_FORK_SAFETY": "YES"}
    subprocess.run(command, env=environment, capture_output=True, timeout=30, check=True)
    assert [job.return_value(refresh=True) for job in jobs] == [1, 1, 2]
    assert after.return_value(refresh=True) == 4.0
    assert broken.get_status(refresh=True) == JobStatus.FAILED
    assert "math domain error" in broken.latest_result().exc_string
    assert (queue.count, queue.finished_job_registry.count) == (0, 4)
    assert queue.failed_job_registry.get_job_ids() == [broken.id]


def test_jobs_for_later(connection):
    queue = Queue("later", connection=connection)
    job = queue.enqueue_in(timedelta(hours=1), math.sqrt, 4)
    assert queue.scheduled_job_registry.get_job_ids() == [job.id]
    SimpleWorker([queue], connection=connection).work(burst=True, logging_level="ERROR")
    assert job.get_status(refresh=True) == JobStatus.SCHEDULED
    job.delete()
    assert queue.scheduled_job_registry.count == 0
