import functools
import math
import operator
import os

import pytest

from tf_lottery.report import workers


def test_results_have_the_order_of_the_jobs():
  jobs = [functools.partial(math.factorial, n) for n in range(40)]
  assert workers.run(jobs, 2) == [math.factorial(n) for n in range(40)]


@pytest.mark.parametrize("count", [2, 40])
def test_an_error_of_a_job_is_raised(count):
  jobs = [functools.partial(operator.truediv, 1, n) for n in range(count)]
  with pytest.raises(ZeroDivisionError):
    workers.run(jobs, 2)


def test_many_jobs_are_shared_by_other_processes():
  found = set(workers.run([os.getpid] * 40, 2))
  assert os.getpid() not in found


def test_few_jobs_start_no_process():
  assert set(workers.run([os.getpid] * 3, 2)) == {os.getpid()}


def test_a_process_that_ends_early_is_reported():
  with pytest.raises(RuntimeError, match="ended early"):
    workers.run([functools.partial(os._exit, 3)] * 40, 2)
