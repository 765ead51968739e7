"""The control `gradual_tfmot`: tfmot's own pruning within one training."""

import functools
import importlib
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from tf_lottery import cost
from tf_lottery import wrappers
from tf_lottery.cost import Cost
from tf_lottery.masks import Mask
from tf_lottery.rewinding import Snapshot
from tf_lottery.search.loop import Search
from tf_lottery.search.recorder import Recorder
from tf_lottery.search.rounds import Round
from tf_lottery.tickets import Ticket
from tf_lottery.training.data import ArrayData
from tf_lottery.training.data import Data
from tf_lottery.training.data import StreamData


def gradual_tfmot(
  search: Search,
  level: int,
  draw: int = 0,
  *,
  make_model: Callable[[], Any],
) -> Round:
  """Gradual pruning as tfmot ships it, for models of tf_keras.

  From the same initial weights to the ticket's density in each layer, within
  one training of the same length and in the same order of the data. It is
  evaluated from three quarters on, when that density is reached. It does not
  resume in the middle.

  Args:
    search: the search.
    level: the Level of the ticket.
    draw: numbers the directory; nothing is drawn.
    make_model: returns a compiled tf_keras model of the same architecture.

  Raises:
    ValueError: the training data are not arrays.

  Reference: Zhu and Gupta, arXiv 1710.01878.
  """
  ticket = search.ticket(level)
  if done := search.find_control(level, "gradual_tfmot", draw):
    return done
  data = search.protocol.train
  if not isinstance(data, ArrayData):
    raise ValueError(
      "The control gradual_tfmot needs training data as arrays, got a tf.data"
      " pipeline. Take the control gradual."
    )
  wrappers.set_seed(search.seed)
  model = make_model()
  start = search.rounds[0].ticket.start
  wrappers.bind(model).write(start)
  directory = search.directory.control(level, "gradual_tfmot", draw)
  with (
    search.directory.locked(),
    Recorder(directory, -1, ticket.density) as recorder,
  ):
    final = _fit(search, data, model, ticket.mask, recorder)
    mask = Mask({key: final[key] != 0 for key in ticket.mask})
    provenance = {**ticket.provenance, "control": "gradual_tfmot", "step": 0}
    directory.save(Ticket(mask, start, provenance), directory.ticket)
    directory.save(Snapshot(search.search_steps, final), directory.final)
    recorder.spent = _cost(search)
    record = recorder.record(
      level=level,
      density=mask.density,
      start=0,
      steps=search.search_steps,
      seed=search.seed,
    )
    directory.finish(record)
  return Round.of(record, directory)


def _fit(
  search: Search,
  data: ArrayData,
  model: Any,
  mask: Mask,
  recorder: Recorder,
) -> dict[str, np.ndarray]:
  """Trains the model under tfmot's schedule; returns its final weights."""
  # Imported here, because it imports tfmot, which not everybody needs.
  tfmot_gradual = importlib.import_module("tf_lottery.wrappers.keras2_gradual")
  protocol = search.protocol
  began = time.perf_counter()

  def record(step, loss, pruned):
    last = step == search.search_steps
    evaluate = functools.partial(_evaluate_by_keras, pruned)
    metrics = protocol.evaluate(evaluate, recorder.history, last=last)
    recorder.seconds = time.perf_counter() - began
    recorder.add({"step": step, "loss": loss, **metrics})

  return tfmot_gradual.fit(
    model,
    # The batches on which the search's own trainer would train.
    lambda step: data.batch(step, protocol.batch_size, protocol.seed),
    search.search_steps,
    {row.key: row.density for row in mask.table()},
    every=protocol.evaluate_every,
    on_evaluation=record,
  )


def _cost(search: Search) -> Cost:
  """Returns what the training took; tfmot's masks skip no operation."""
  steps = search.search_steps
  flops = search.trainer.flops(search.protocol.train)
  forward = 0.0 if flops is None else flops.forward()
  examples = steps * search.protocol.batch_size
  return cost.of_training(steps, examples, forward, forward)


def _evaluate_by_keras(model: Any, data: Data) -> dict[str, float]:
  if isinstance(data, StreamData):
    return model.evaluate(data.make(0), verbose=0, return_dict=True)
  x, y, weight = data.take(slice(None))
  return model.evaluate(
    x,
    y,
    sample_weight=weight,
    batch_size=1000,
    verbose=0,
    return_dict=True,
  )
