"""Controls: a ticket with one thing changed, trained as the ticket was.

Each control is one function of a search's result, a Level and a draw. It trains
once: called again on the same run directory, it reads back what is there.
"""

import functools
import importlib
import time
import zlib
from collections.abc import Callable
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tf_lottery import augmentation
from tf_lottery import data as data_lib
from tf_lottery import legs
from tf_lottery import levels
from tf_lottery import masks
from tf_lottery import rewinding
from tf_lottery import rounds
from tf_lottery import tickets
from tf_lottery import training
from tf_lottery import wrappers

Control = Callable[[levels.SearchResult, int, int], rounds.Round]


def random_reinit(
  result: levels.SearchResult, level: int, draw: int = 0
) -> rounds.Round:
  """Other initial weights of the same initialisers, under the same mask.

  They train as the ticket does: from step k on, in a run that rewinds to it;
  through a whole training, in a run that only fine-tunes.

  Reference: Frankle and Carbin, arXiv 1803.03635, section 2.
  """
  seed = _seed(result, "random_reinit", level, draw)
  ticket = _ticket(result, level)
  changed = ticket.reinitialised(result.trainer.draw(seed), seed)
  # New weights need the learning rates of a whole training.
  fresh = result.search.rewind.position is None
  rewind = rewinding.to_init() if fresh else None
  return _train(result, changed, "random_reinit", draw, rewind)


def shuffled_mask(
  result: levels.SearchResult, level: int, draw: int = 0
) -> rounds.Round:
  """As many weights kept in each layer, at other places."""
  seed = _seed(result, "shuffled_mask", level, draw)
  ticket = _ticket(result, level)
  changed = ticket.shuffled(result.search.dense_start(), seed)
  return _train(result, changed, "shuffled_mask", draw)


def random_mask(
  result: levels.SearchResult, level: int, draw: int = 0
) -> rounds.Round:
  """As many weights kept in the whole network, at other places.

  Drawn from all prunable weights, those that the scope exempts too.
  """
  seed = _seed(result, "random_mask", level, draw)
  ticket = _ticket(result, level)
  mask = masks.Mask.random(ticket.mask.shapes, ticket.density, seed)
  changed = _changed(
    ticket, mask, result.search.dense_start(), "random_mask", seed
  )
  return _train(result, changed, "random_mask", draw)


def one_shot(
  result: levels.SearchResult, level: int, draw: int = 0
) -> rounds.Round:
  """The same density in one step, from the dense network's trained weights."""
  search, ticket = result.search, _ticket(result, level)
  dense = result.rounds[0]
  mask = search.pruned(
    dense.final, dense.ticket.mask, search.schedule[level - 1]
  )
  changed = _changed(ticket, mask, search.dense_start(), "one_shot")
  return _train(result, changed, "one_shot", draw)


def fine_tune(
  result: levels.SearchResult, level: int, draw: int = 0
) -> rounds.Round:
  """No rewinding: on from the trained weights, at the last learning rate.

  Reference: Han et al., arXiv 1506.02626.
  """
  changed = _from_trained(result, level, "fine_tune")
  return _train(result, changed, "fine_tune", draw, rewinding.finetune())


def learning_rate_rewind(
  result: levels.SearchResult, level: int, draw: int = 0
) -> rounds.Round:
  """On from the trained weights, with the learning rate of the beginning.

  Reference: Renda et al., arXiv 2003.02389.
  """
  name = "learning_rate_rewind"
  changed = _from_trained(result, level, name)
  return _train(result, changed, name, draw, rewinding.learning_rate())


def rewind_to_init(
  result: levels.SearchResult, level: int, draw: int = 0
) -> rounds.Round:
  """The initial weights, in a run that rewinds to a later step.

  Raises:
    ValueError: the run rewinds to initialisation itself.

  Reference: Frankle et al., arXiv 1912.05671.
  """
  if result.search.rewind == rewinding.to_init():
    raise ValueError(
      "The control rewind_to_init would repeat the tickets of a run that"
      " rewinds to initialisation. Leave it out, or rewind to a later step."
    )
  ticket = _ticket(result, level)
  initial = result.search.initial.weights
  changed = _changed(ticket, ticket.mask, initial, "rewind_to_init")
  return _train(result, changed, "rewind_to_init", draw, rewinding.to_init())


def small_dense(
  result: levels.SearchResult,
  level: int,
  draw: int = 0,
  *,
  make_model: Callable[[int], Any],
) -> rounds.Round:
  """A narrower dense network with as many weights as the ticket.

  Args:
    result: of the search.
    level: whose ticket.
    draw: another initialisation for each.
    make_model: number of prunable weights -> compiled model of about so many.
      The record's density is what it has, over the whole network's.
  """
  search, ticket = result.search, _ticket(result, level)
  directory = search.directory.control(level, "small_dense", draw)
  if directory.is_done:
    return rounds.Round.read(directory)
  seed = _seed(result, "small_dense", level, draw)
  trainer = training.Trainer(
    functools.partial(make_model, ticket.mask.kept),
    strategy=search.trainer.strategy,
    seed=seed,
    jit=search.trainer.jit,
  )
  mask = masks.Mask.ones(trainer.binding.shapes)
  leg = legs.Leg(trainer.initial, mask, 0, search.search_steps)
  provenance = {"level": level, "control": "small_dense", "control_seed": seed}
  with search.directory.locked():
    round_, _ = legs.complete(
      trainer,
      search.protocol,
      leg,
      directory,
      provenance,
      density=mask.size / ticket.mask.size,
    )
  return round_


def gradual(
  result: levels.SearchResult,
  level: int,
  draw: int = 0,
  *,
  make_model: Callable[[], Any],
) -> rounds.Round:
  """Tfmot's gradual pruning: what a practitioner would use instead.

  From the same initial weights to the ticket's density in each layer, within
  one training of the same length and in the same order of the data. It is
  evaluated from three quarters on, when that density is reached. Not resumed
  in the middle.

  Args:
    result: of the search.
    level: whose ticket.
    draw: nothing is drawn; the number names the directory.
    make_model: returns a compiled tf_keras model of the same architecture.

  Raises:
    ValueError: the training data are no arrays.

  Reference: Zhu and Gupta, arXiv 1710.01878.
  """
  search, ticket = result.search, _ticket(result, level)
  directory = search.directory.control(level, "gradual", draw)
  if directory.is_done:
    return rounds.Round.read(directory)
  if not isinstance(search.protocol.train, data_lib.ArrayData):
    raise ValueError(
      "The control gradual needs training data as arrays, got a tf.data"
      " pipeline. Leave it out."
    )
  wrappers.set_seed(search.protocol.seed)
  model = make_model()
  binding = wrappers.bind(model)
  start = result.rounds[0].ticket.start
  binding.write(start)
  with (
    search.directory.locked(),
    rounds.Recorder(directory, -1, ticket.density) as recorder,
  ):
    final = _fit_gradually(search, model, ticket.mask, recorder)
    mask = masks.Mask({key: final[key] != 0 for key in ticket.mask})
    provenance = {**ticket.provenance, "control": "gradual"}
    tickets.Ticket(mask, start, provenance).save(directory.ticket)
    rewinding.Snapshot(search.search_steps, final).save(directory.final)
    record = rounds.record_of(
      recorder.history,
      level=level,
      density=mask.density,
      steps=search.search_steps,
      seed=search.protocol.seed,
    )
    directory.finish(record)
  return rounds.Round.of(record, directory)


def _fit_gradually(
  search: levels.Search,
  model: Any,
  mask: masks.Mask,
  recorder: rounds.Recorder,
) -> dict[str, np.ndarray]:
  # Here, because it imports tfmot, which not everybody needs.
  gradual_lib = importlib.import_module("tf_lottery.wrappers.keras2_gradual")
  protocol = search.protocol
  began = time.perf_counter()

  def record(step, loss, pruned):
    last = step == search.search_steps
    evaluate = functools.partial(_evaluate_by_keras, pruned)
    metrics = protocol.evaluate(evaluate, recorder.history, last=last)
    recorder.seconds = time.perf_counter() - began
    recorder.add({"step": step, "loss": loss, **metrics})

  return gradual_lib.fit(
    model,
    functools.partial(_batch, protocol),
    search.search_steps,
    {part.key: part.density for part in mask.table()},
    every=protocol.evaluate_every,
    on_evaluation=record,
  )


def _batch(protocol: legs.Protocol, step: int) -> tuple[Any, ...]:
  """The batch that the trainer would train on at a step."""
  data, size = protocol.train, protocol.batch_size
  epoch, index = divmod(step, protocol.steps_per_epoch)
  order = _order(data, protocol.seed, epoch)
  indices = order[index * size : (index + 1) * size]
  x, y, weight = data.take(indices)
  if data.augment is not None:
    first = tf.constant([protocol.seed, step - index], tf.int64)
    x = data.augment(x, augmentation.uniforms(size, first, index))
  return (x, y) if weight is None else (x, y, weight)


@functools.lru_cache(maxsize=1)
def _order(data: data_lib.ArrayData, seed: int, epoch: int) -> np.ndarray:
  return data.order(seed, epoch)


def _evaluate_by_keras(model: Any, data: data_lib.Data) -> dict[str, float]:
  if isinstance(data, data_lib.StreamData):
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


BY_NAME: Mapping[str, Control] = {
  control.__name__: control
  for control in (
    random_reinit,
    shuffled_mask,
    random_mask,
    one_shot,
    fine_tune,
    learning_rate_rewind,
    rewind_to_init,
  )
}


def _seed(
  result: levels.SearchResult, control: str, level: int, draw: int
) -> int:
  """A seed of its own for each draw, and never the run's."""
  seed = result.search.protocol.seed
  return zlib.crc32(f"{seed} {control} {level} {draw}".encode()) >> 1


def _from_trained(
  result: levels.SearchResult, level: int, control: str
) -> tickets.Ticket:
  ticket = _ticket(result, level)
  trained = result.rounds[level - 1].final.weights
  return _changed(ticket, ticket.mask, trained, control)


def _changed(
  ticket: tickets.Ticket,
  mask: masks.Mask,
  weights: Mapping[str, np.ndarray],
  control: str,
  seed: int | None = None,
) -> tickets.Ticket:
  """The ticket with another mask or other start weights."""
  provenance = {**ticket.provenance, "control": control, "control_seed": seed}
  start = {key: weights[key] for key in ticket.start}
  return tickets.Ticket(mask, start, provenance)


def _train(
  result: levels.SearchResult,
  ticket: tickets.Ticket,
  control: str,
  draw: int,
  rewind: rewinding.Rewind | None = None,
) -> rounds.Round:
  level = ticket.provenance["level"]
  directory = result.search.directory.control(level, control, draw)
  return result.search.train(
    ticket, directory.path.name, rewind=rewind, final=False
  )


def _ticket(result: levels.SearchResult, level: int) -> tickets.Ticket:
  if not 0 < level < len(result.rounds):
    raise ValueError(
      f"Controls belong to pruned Levels, 1 to {len(result.rounds) - 1}; got"
      f" Level {level}."
    )
  return result.rounds[level].ticket
