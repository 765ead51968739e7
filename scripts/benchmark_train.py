"""The competitors of `benchmark.py --suite=train`.

Each is a function of the task and of `pause`, and runs in a process of its
own: it trains an epoch (or a Round, or a search), calls `pause()`, trains the
next, and so on, until `pause()` raises. Imports are inside the functions, so
that no process holds a competitor's libraries but its own.
"""

import dataclasses
import functools
import importlib
import itertools
import json
import pathlib
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any

import numpy as np

BATCH_SIZE = 60
DENSITY = 0.2
# Fashion-MNIST has 60,000 training images, of which a search holds out 5,000.
TRAIN_SHARE = 11 / 12
TEST_SIZE = 10_000
EVALUATE_EVERY = 100
# Of a Round whose evaluations are measured: 10,000 with 60,000 images. It is
# the whole training, because most tests fall in its beginning.
ROUND_EPOCHS = 10
# Of networks.py -> learning rate of Adam.
LEARNING_RATES = {"lenet_300_100": 1.2e-3, "conv2": 2e-4}

Pause = Callable[..., None]


@dataclasses.dataclass(frozen=True)
class Task:
  """What every competitor is given.

  Attributes:
    pixels: images, uint8 of shape `(n, 28, 28)`.
    y: labels, int32.
    search: the data set and the directory of the search whose memory is
      measured.
    repeats: how often an epoch will be asked for.
    directory: a place for files.
  """

  pixels: np.ndarray
  y: np.ndarray
  search: Mapping[str, Any]
  repeats: int
  directory: pathlib.Path

  @classmethod
  def load(cls, directory: pathlib.Path, repeats: int) -> "Task":
    """Reads what `prepare` wrote."""
    pixels, y = (np.load(directory / f"{part}.npy") for part in "xy")
    search = json.loads((directory / "search.json").read_text())
    return cls(pixels, y, search, repeats, directory)

  @functools.cached_property
  def x(self) -> np.ndarray:
    """The images as float32 in [0, 1]."""
    return self.pixels.astype(np.float32) / 255

  def tenth(self) -> "Task":
    """The same with a tenth of the examples."""
    size = len(self.y) // 10
    return dataclasses.replace(self, pixels=self.pixels[:size], y=self.y[:size])

  @property
  def steps(self) -> int:
    """Steps in an epoch."""
    return len(self.y) // BATCH_SIZE


def prepare(
  directory: pathlib.Path, data_dir: str | None, smoke: bool
) -> tuple[str, dict[str, Any]]:
  """Writes the data for all competitors to a directory; says what it is."""
  from tf_lottery.papers import datasets

  search = {"name": "fashion_mnist", "data_dir": data_dir}
  try:
    splits = datasets.load_data("fashion_mnist", data_dir=data_dir)
    # All 60,000, of which the last 5,000 are held out.
    parts = zip(
      splits.train_data.arrays, splits.validation_data.arrays, strict=True
    )
    x, y = (np.concatenate(pair) for pair in list(parts)[:2])
    name = "Fashion-MNIST"
  except FileNotFoundError:
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (60_000, 28, 28), np.uint8)
    y = rng.integers(0, 10, 60_000).astype(np.int32)
    name = "random data of Fashion-MNIST's shape (it is not prepared for tfds)"
    search = {"name": "digits", "data_dir": None}
  size = 20 * BATCH_SIZE if smoke else len(x)
  np.save(directory / "x.npy", x[:size])
  np.save(directory / "y.npy", y[:size])
  (directory / "search.json").write_text(json.dumps(search))
  return f"{name}, {size:,} examples", search


# The competitors.


def trainer(
  task: Task, pause: Pause, network: str, keras: str, floats: bool = True
) -> None:
  """Our own loop, with a mask held, on floats or on pixels that it scales."""
  from tf_lottery import masks
  from tf_lottery.training.data import ArrayData
  from tf_lottery.training.trainer import Trainer

  ours = Trainer(lambda: compiled(task, network, keras))
  mask = masks.Mask.random(ours.binding.shapes, DENSITY, seed=0)
  ours.restore(ours.initial, mask, 0)
  if floats:
    examples = ArrayData((task.x, task.y))
  else:
    examples = ArrayData((task.pixels, task.y), scale=255)
  for epoch in itertools.count():
    ours.train(examples, 0, task.steps, batch_size=BATCH_SIZE, seed=epoch)
    pause()


def rounds(task: Task, pause: Pause, evaluate_every: int | None) -> None:
  """Rounds as a search trains them, evaluated so often and at the end."""
  from tf_lottery import masks
  from tf_lottery import tickets
  from tf_lottery.search.protocol import Protocol
  from tf_lottery.storage.run_directory import RunDirectory
  from tf_lottery.training.data import ArrayData
  from tf_lottery.training.trainer import Trainer

  ours = Trainer(lambda: compiled(task, "lenet_300_100", "keras", ["accuracy"]))
  cut = round(TRAIN_SHARE * len(task.y))
  train, validation, test = (
    ArrayData((task.pixels[part], task.y[part]), scale=255)
    for part in (slice(cut), slice(cut, None), slice(TEST_SIZE))
  )
  steps = ROUND_EPOCHS * task.steps
  protocol = Protocol(
    train=train,
    validation=validation,
    test=test,
    batch_size=BATCH_SIZE,
    evaluate_every=evaluate_every or steps,
    seed=0,
  )
  mask = masks.Mask.random(ours.binding.shapes, DENSITY, seed=0)
  ticket = tickets.Ticket(mask, ours.initial.without_random_states())
  run = RunDirectory(task.directory / f"every_{evaluate_every}")
  for number in itertools.count():
    protocol.train_round(
      ours, ticket, ours.initial, range(steps), run.level(number)
    )
    pause()


def search(task: Task, pause: Pause) -> None:
  """A short search with a control, as `find_ticket.py` runs it."""
  from tf_lottery import experiments
  from tf_lottery import papers

  experiment = papers.experiment(
    data=task.search["name"],
    data_dir=task.search["data_dir"],
    steps=300,
    levels=2,
    controls=("random_reinit",),
    control_levels=(2,),
  )
  shared = experiment.make_trainer()
  for number in itertools.count():
    found = experiments.find(
      experiment,
      0,
      task.directory / f"search_{number}",
      trainer=shared,
      progress=False,
    )
    experiments.train_controls(experiment, 0, found)
    pause()


def fit(task: Task, pause: Pause, network: str, keras: str) -> None:
  """Plain Keras: one `fit()`, so that each epoch is one of many."""
  model = compiled(task, network, keras)
  _fit(model, task, [_pausing(keras, pause)])


def tfmot_fit(task: Task, pause: Pause) -> None:
  """Stock tfmot pruning, held at one sparsity, in tf_keras's `fit()`."""
  import tensorflow_model_optimization as tfmot

  sparsity = tfmot.sparsity.keras
  model = sparsity.prune_low_magnitude(
    compiled(task, "lenet_300_100", "tf_keras"),
    pruning_schedule=sparsity.ConstantSparsity(1 - DENSITY, begin_step=0),
  )
  _compile(model, "lenet_300_100", "tf_keras")
  callbacks = [sparsity.UpdatePruningStep(), _pausing("tf_keras", pause)]
  _fit(model, task, callbacks)


def floor(task: Task, pause: Pause) -> None:
  """The bar: an epoch as one XLA loop by hand, without masks and Keras."""
  import tensorflow as tf

  program = _floor_program(task.steps)
  x, y = tf.constant(task.x), tf.constant(task.y)
  for epoch, order in enumerate(_orders(task)):
    before = tf.constant(epoch * task.steps)
    float(program(x, y, tf.constant(order), before))
    pause()


def _floor_program(steps: int) -> Callable[..., Any]:
  import tensorflow as tf

  weights = [tf.Variable(weight) for weight in _initial_weights()]
  moments = [
    [tf.Variable(tf.zeros_like(weight)) for weight in weights] for _ in range(2)
  ]

  def loss_of(x, y):
    hidden = tf.reshape(x, [BATCH_SIZE, -1])
    for kernel, bias in _pairs(weights[:-2]):
      hidden = tf.nn.relu(hidden @ kernel + bias)
    logits = hidden @ weights[-2] + weights[-1]
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(y, logits)
    return tf.reduce_mean(losses)

  def update(gradients, count):
    rate = LEARNING_RATES["lenet_300_100"]
    rate *= tf.sqrt(1 - 0.999**count) / (1 - 0.9**count)
    for weight, first, second, gradient in zip(
      weights, *moments, gradients, strict=True
    ):
      first.assign_add(0.1 * (gradient - first))
      second.assign_add(0.001 * (tf.square(gradient) - second))
      weight.assign_sub(rate * first / (tf.sqrt(second) + 1e-7))

  @tf.function(jit_compile=True)
  def program(x, y, order, before):
    def step(index, total):
      batch = order[index]
      with tf.GradientTape() as tape:
        loss = loss_of(tf.gather(x, batch), tf.gather(y, batch))
      count = tf.cast(before + index + 1, tf.float32)
      update(tape.gradient(loss, weights), count)
      return index + 1, total + loss

    return tf.while_loop(lambda index, _: index < steps, step, (0, 0.0))[1]

  return program


def torch_prune(task: Task, pause: Pause) -> None:
  """PyTorch with `torch.nn.utils.prune`; batches are indexed, not loaded."""
  import torch
  from torch.nn.utils import prune

  torch.set_flush_denormal(True)  # as TensorFlow does
  layers = [torch.nn.Flatten()]
  for kernel, bias in _pairs(_initial_weights()):
    layer = torch.nn.Linear(*kernel.shape)
    layer.load_state_dict(
      {"weight": torch.tensor(kernel.T), "bias": torch.tensor(bias)}
    )
    prune.random_unstructured(layer, "weight", amount=1 - DENSITY)
    layers += [layer, torch.nn.ReLU()]
  network = torch.nn.Sequential(*layers[:-1])
  optimizer = torch.optim.Adam(
    network.parameters(), lr=LEARNING_RATES["lenet_300_100"], eps=1e-7
  )
  loss_of = torch.nn.CrossEntropyLoss()
  x, y = torch.from_numpy(task.x), torch.from_numpy(task.y).long()
  for order in _orders(task):
    for batch in torch.from_numpy(order):
      optimizer.zero_grad()
      loss_of(network(x[batch]), y[batch]).backward()
      optimizer.step()
    pause()


def level_bookkeeping(task: Task, pause: Pause) -> None:
  """What a Level of an epoch takes beside training and evaluation."""
  import tf_lottery

  cut = round(TRAIN_SHARE * len(task.y))
  tf_lottery.find_ticket(
    lambda: compiled(task, "lenet_300_100", "keras", metrics=["accuracy"]),
    (task.x, task.y),
    validation_data=(task.x[cut:], task.y[cut:]),
    epochs=1,
    batch_size=BATCH_SIZE,
    schedule=tf_lottery.geometric(task.repeats),
    method="iterative",
    scope=tf_lottery.global_(),
    run_dir=task.directory / "run",
    progress=False,
    on_round=lambda round_: pause(uncounted=round_.seconds),
  )


# What they share.


def compiled(
  task: Task, network: str, keras: str, metrics: list[str] | None = None
) -> Any:
  """Returns a network of the papers, compiled as its recipe says."""
  from tf_lottery.papers import networks

  model = getattr(networks, network)(task.pixels.shape[1:], keras=keras)
  _compile(model, network, keras, metrics)
  return model


def _compile(
  model: Any, network: str, keras: str, metrics: list[str] | None = None
) -> None:
  adam = importlib.import_module(keras).optimizers.Adam
  model.compile(
    optimizer=adam(LEARNING_RATES[network]),
    loss="sparse_categorical_crossentropy",
    metrics=metrics,
  )


def _fit(model: Any, task: Task, callbacks: list[Any]) -> None:
  model.fit(
    task.x,
    task.y,
    batch_size=BATCH_SIZE,
    epochs=task.repeats + 2,
    verbose=0,
    callbacks=callbacks,
  )


def _pausing(keras: str, pause: Pause) -> Any:
  class Pausing(importlib.import_module(keras).callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
      pause()

  return Pausing()


def _initial_weights() -> list[np.ndarray]:
  """LeNet-300-100's kernels, Glorot normal, and biases, in turn."""
  rng = np.random.default_rng(0)
  weights = []
  for inputs, units in itertools.pairwise((784, 300, 100, 10)):
    kernel = rng.standard_normal((inputs, units), np.float32)
    scale = np.float32(np.sqrt(2 / (inputs + units)))
    weights += [kernel * scale, np.zeros(units, np.float32)]
  return weights


def _pairs(weights: list[Any]) -> Iterator[tuple[Any, Any]]:
  return zip(weights[::2], weights[1::2], strict=True)


def _orders(task: Task) -> Iterator[np.ndarray]:
  """The shuffled batches of each epoch; int32 of shape `(steps, batch)`."""
  rng = np.random.default_rng(0)
  size = task.steps * BATCH_SIZE
  while True:
    order = rng.permutation(len(task.x))[:size].astype(np.int32)
    yield order.reshape(-1, BATCH_SIZE)


# The suite.


def _lenet(
  competitor: Callable[..., None], keras: str, **arguments: Any
) -> Callable[..., None]:
  return functools.partial(
    competitor, network="lenet_300_100", keras=keras, **arguments
  )


def _conv2(competitor: Callable[..., None]) -> Callable[..., None]:
  def smaller(task, pause):
    competitor(task.tenth(), pause, network="conv2", keras="keras")

  return smaller


FLOOR = "floor"
# What is measured in turns; the rows of a group with the floor have a ratio.
GROUPS: tuple[Mapping[str, Callable[[Task, Pause], None]], ...] = (
  {
    FLOOR: floor,
    "tf_lottery (keras)": _lenet(trainer, "keras"),
    "tf_lottery (keras, uint8)": _lenet(trainer, "keras", floats=False),
    "tf_lottery (tf_keras)": _lenet(trainer, "tf_keras"),
    "fit (keras)": _lenet(fit, "keras"),
    "fit (tf_keras)": _lenet(fit, "tf_keras"),
    "tfmot + fit (tf_keras)": tfmot_fit,
    "torch prune": torch_prune,
  },
  {
    "conv2 tf_lottery (keras)": _conv2(trainer),
    "conv2 fit (keras)": _conv2(fit),
  },
  {
    "evaluated at the end": functools.partial(rounds, evaluate_every=None),
    "evaluated every 100": functools.partial(
      rounds, evaluate_every=EVALUATE_EVERY
    ),
  },
  {"level bookkeeping": level_bookkeeping},
  {"search": search},
)
# Whose absence skips a competitor, and does not end the run.
OPTIONAL = ("tensorflow_model_optimization", "tf_keras", "torch")


def targets(
  results: Mapping[str, Any], facts: Mapping[str, Any]
) -> Iterator[tuple[str, str, bool]]:
  """Yields each target that could be measured: text, value, whether met.

  Args:
    results: name -> `Result`.
    facts: the data set of the search.
  """
  ours, fitted = "tf_lottery (keras)", "fit (keras)"
  for text, name, other, limit in (
    ("an epoch is at most 1.15 x the floor's", ours, FLOOR, 1.15),
    (
      "with uint8 images it is at most 1.15 x the floor's",
      "tf_lottery (keras, uint8)",
      FLOOR,
      1.15,
    ),
    (
      "tfmot + fit takes at least 4 x as long",
      "tfmot + fit (tf_keras)",
      ours,
      4,
    ),
    ("fit (keras) takes at least 3 x as long", fitted, ours, 3),
    (
      "Conv-2 is no slower than fit (keras)",
      f"conv2 {ours}",
      f"conv2 {fitted}",
      1,
    ),
  ):
    if name in results and other in results:
      ratio = results[name].over(results[other])
      met = ratio >= limit if "at least" in text else ratio <= limit
      yield text, f"{ratio:.2f} x", met
  memory = results[ours].peak_rss_mb / results[fitted].peak_rss_mb
  yield "peak memory is at most 1.3 x fit's", f"{memory:.2f} x", memory <= 1.3
  share = results["level bookkeeping"].share
  yield "bookkeeping is at most 5 % of a Level", f"{share:.1%}", share <= 0.05
  every, once = (
    results[f"evaluated {when}"] for when in ("every 100", "at the end")
  )
  share = 1 - once.over(every)
  text = "evaluating every 100 steps is at most 25 % of the time"
  yield text, f"{share:.1%}", share <= 0.25
  if facts["name"] == "fashion_mnist":
    peak = results["search"].peak_rss_mb
    text = "peak memory of a search on Fashion-MNIST is at most 1,100 MB"
    yield text, f"{peak:,.0f} MB", peak <= 1100
