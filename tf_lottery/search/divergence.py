"""Trainings that diverge: they stop, and say what may be the reason."""

import dataclasses
import logging
import math

import numpy as np

from tf_lottery.search.recorder import Recorder
from tf_lottery.storage.round_directory import RoundDirectory
from tf_lottery.tickets import Ticket
from tf_lottery.training.trainer import Trainer

_log = logging.getLogger("tf_lottery")


class DivergedError(RuntimeError):
  """A training whose loss or weights are not finite any more."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Watch:
  """Watches the losses and the weights of one Round.

  A control may diverge: that it does where the ticket trains is a result. It
  trains to its end, and a warning says so.

  Attributes:
    trainer: trains the Round.
    ticket: what is trained.
    span: the optimizer updates of the Round.
    directory: the directory of the Round.
    recorder: knows the evaluations so far.
  """

  trainer: Trainer
  ticket: Ticket
  span: range
  directory: RoundDirectory
  recorder: Recorder

  def loss(self, loss: float, steps: range) -> None:
    """Raises DivergedError if the mean loss of some steps is not finite."""
    if math.isfinite(loss) or self._is_control:
      return
    # An optimizer that scales the loss leaves out the steps that overflow.
    scales = hasattr(self.trainer.model.optimizer, "inner_optimizer")
    if not (scales and self._weights_are_finite()):
      what = f"the training loss became {loss}"
      raise DivergedError(
        f"{self._name}: {what} between step {steps.start} and step"
        f" {steps.stop} of {self.span.stop}. {self._reason(steps.start)}"
        f" {self._kept}"
      )

  def end(self) -> None:
    """Checks the weights and the last evaluation at the end of the Round.

    Raises:
      DivergedError: a weight is not finite.
    """
    if not self._weights_are_finite():
      message = f"{self._name}: its weights are not finite at the end."
      if not self._is_control:
        raise DivergedError(
          f"{message} {self._reason(self.span.start)} {self._kept}"
        )
      _log.warning("%s The control is recorded as it is.", message)
      return
    last = self.recorder.history[-1]
    bad = [name for name, value in last.items() if not math.isfinite(value)]
    if bad:
      _log.warning(
        "%s: %s is %s, though weights are finite. A Level does not match by a"
        " metric that is not a number: look at the data and the metric.",
        self._name,
        bad[0],
        last[bad[0]],
      )

  @property
  def _is_control(self) -> bool:
    return bool(self.ticket.provenance.get("control"))

  @property
  def _name(self) -> str:
    level = self.ticket.provenance.get("level", 0)
    control = self.ticket.provenance.get("control")
    name = f", control {control}" if control else ""
    return f"Level {level}{name}, density {self.ticket.density:.2%}"

  @property
  def _kept(self) -> str:
    return (
      f"The Round is not recorded as done. {self.directory.run.path} keeps the"
      " Rounds before it and what they found; a changed model or training needs"
      " another run_dir."
    )

  def _reason(self, step: int) -> str:
    """What may be the reason, given the last step whose loss was finite."""
    rows = self.recorder.history
    if rows and not math.isfinite(rows[0]["val_loss"]):
      return (
        "The loss of the first evaluation was not finite either: look for"
        " values that the loss cannot take, such as the logarithm of 0 or"
        " numbers too large for float16. A lower learning rate does not help."
      )
    if step > self.span.start:
      return (
        f"It was finite up to step {step}: probably the learning rate is too"
        " high for what came then. Lower it, or clip gradients (clipnorm=1.0)."
      )
    return (
      "This happened in the first steps: either the learning rate is far too"
      " high, or some training examples give a loss that is not finite."
    )

  def _weights_are_finite(self) -> bool:
    return all(
      np.isfinite(value.astype(np.float64)).all()
      for value in self.trainer.binding.read().values()
    )
