"""The branch `retrain`: the same ticket by another recipe."""

import dataclasses
from typing import Any

from tf_lottery import rewinding
from tf_lottery.experiments import controls
from tf_lottery.search import declarations
from tf_lottery.search.loop import Search
from tf_lottery.search.protocol import Protocol
from tf_lottery.search.rounds import Round
from tf_lottery.storage.round_directory import RoundDirectory
from tf_lottery.tickets import Ticket
from tf_lottery.training.data import as_data
from tf_lottery.training.trainer import Trainer


def retrain(
  search: Search,
  level: int,
  draw: int = 0,
  *,
  name: str,
  trainer: Trainer | None = None,
  train_data: Any = None,
  validation_data: Any = None,
  test_data: Any = None,
  batch_size: int | None = None,
  steps: int | None = None,
) -> Round:
  """Trains a Level's ticket by another recipe than that which found it.

  The mask and the start weights stay; the optimizer, the loss, the data, the
  batch size and the length may be others. The learning-rate schedule and the
  order of the data begin at step 0. Level 0 is the dense network, for
  comparison.

  Args:
    search: the search.
    level: the Level of the ticket; 0 is the dense network.
    draw: numbers trainings of the same recipe.
    name: of the recipe; the Round lies in `level_03-NAME-0` of the run
      directory. A name stands for one recipe.
    trainer: has the same architecture, and was compiled with another optimizer,
      loss or learning rate. One trainer serves all Levels. Defaults to the
      search's.
    train_data: in a form that `find_ticket` takes. Defaults to the search's.
    validation_data: in the same forms. Defaults to the search's.
    test_data: in the same forms. Defaults to the search's.
    batch_size: examples in a step. Defaults to the search's.
    steps: optimizer updates, at least 1. Defaults to those of the search's
      final training.

  Raises:
    ValueError: an argument is out of range, the trainer has another
      architecture, or the name stands for another recipe.

  Example:
  ```python
  momentum = Trainer(lambda: make_model(keras.optimizers.SGD(0.1, 0.9)))
  for level in (0, 5):
    experiments.retrain(search, level, name="momentum", trainer=momentum)
  ```

  Reference: Morcos et al., arXiv 1906.02773.
  """
  _check_arguments(search, level, name, steps)
  before = search.protocol
  protocol = dataclasses.replace(
    before,
    train=as_data(before.train if train_data is None else train_data),
    validation=as_data(
      before.validation if validation_data is None else validation_data
    ),
    test=before.test if test_data is None else as_data(test_data),
    batch_size=batch_size or before.batch_size,
  )
  trainer = trainer or search.trainer
  ticket = _ticket(search, level)
  _check_architecture(trainer, ticket)
  provenance = {
    **ticket.provenance,
    "control": name,
    "control_seed": None,
    "recipe": recipe_of(trainer, protocol),
  }
  ticket = dataclasses.replace(ticket, provenance=provenance)
  check_recipe(search.directory.control(level, name, draw), ticket)
  return search.train_control(
    ticket,
    draw,
    rewind=rewinding.to_init(),
    trainer=None if trainer is search.trainer else trainer,
    protocol=protocol,
    steps=search.steps if steps is None else steps,
  )


def _ticket(search: Search, level: int) -> Ticket:
  ticket = search.round(level).ticket
  if level:
    return ticket
  # Where tickets start from step k, so does the dense network beside them.
  dense = search.dense_start()
  start = {key: dense[key] for key in ticket.start}
  return dataclasses.replace(ticket, start=start)


def recipe_of(trainer: Trainer, protocol: Protocol) -> dict[str, Any]:
  """What a name stands for, beside the length, as JSON can hold it."""
  model = declarations.of_model(trainer)
  return {
    "optimizer": model["optimizer"],
    "loss": model["loss"],
    "train_data": protocol.train.fingerprint(),
    "validation_data": protocol.validation.fingerprint(),
    "batch_size": protocol.batch_size,
  }


def _check_arguments(
  search: Search, level: int, name: str, steps: int | None
) -> None:
  search.round(level)  # refuses one that is not trained
  taken = {"dense", "ticket", *controls.BY_NAME}
  taken |= {*controls.WITH_MODEL, *controls.WITH_SOURCE}
  if not name.isidentifier() or name in taken:
    raise ValueError(
      "name must have letters, digits and _ alone, and must not be 'dense',"
      f" 'ticket' or the name of a control, got {name!r}."
    )
  if steps is not None and steps < 1:
    raise ValueError(f"steps must be at least 1, got {steps}.")


def _check_architecture(trainer: Trainer, ticket: Ticket) -> None:
  """Refuses a trainer whose weights are not those of the ticket."""
  own = {weight.key: weight for weight in trainer.binding.report}
  shapes = {key: tuple(value.shape) for key, value in ticket.start.items()}
  for key in [*own, *shapes]:
    here = own[key].shape if key in own else "none"
    there = shapes.get(key, "none")
    if here != there:
      name = own[key].name if key in own else key
      raise ValueError(
        "retrain needs a trainer of the ticket's architecture, also with as"
        f" many outputs: {name} has shape {here} in its model, and {there} in"
        " the ticket."
      )
  if trainer.binding.shapes != ticket.mask.shapes:
    raise ValueError(
      "retrain needs a trainer whose prunable weights are those of the search:"
      f" {sorted(ticket.mask)}, got {sorted(trainer.binding.shapes)}. Give it"
      " the same prunable."
    )


def check_recipe(directory: RoundDirectory, ticket: Ticket) -> None:
  """Refuses a directory that holds a training by another recipe.

  Args:
    directory: the directory of the Round.
    ticket: what to train there; its provenance holds `recipe_of` its training.

  Raises:
    ValueError: the ticket in the directory was trained by another recipe.
  """
  if not directory.ticket.is_file():
    return
  before = Ticket.load(directory.ticket).provenance.get("recipe", {})
  now = declarations.plain(ticket.provenance["recipe"])
  for field, value in now.items():
    if before.get(field) != value:
      raise ValueError(
        f"{directory.path} holds a training by another recipe; {field}: it was"
        f" {before.get(field)}, now {value}. Give another name."
      )
