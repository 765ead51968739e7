"""The networks of the papers, built with either Keras generation.

Each function takes `(input_shape, classes)` and returns a model that is not
compiled. `width` multiplies the number of units or filters of every hidden
layer, of which at least one is left. It makes small dense networks, to compare
sparse ones with; see the control `small_dense`. The papers trained without
`dropout`; a dense network that is tuned may have it, see `experiments.tune`.

All kernels are Glorot normal and all biases zero, as in Frankle and Carbin
(arXiv 1803.03635, section 2), although later code draws He normal.
"""

import functools
import importlib
from collections.abc import Callable
from collections.abc import Iterable
from typing import Any

Network = Callable[..., Any]
_POOL = 0


def lenet_300_100(
  input_shape: tuple[int, ...],
  classes: int = 10,
  *,
  keras: str = "keras",
  width: float = 1.0,
  dropout: float = 0.0,
) -> Any:
  """The paper's LeNet: dense layers of 300, 100 and `classes` units.

  266,200 prunable weights for 28x28 images and 10 classes.

  Args:
    input_shape: Shape of one example.
    classes: Number of classes.
    keras: `"keras"` (Keras 3) or `"tf_keras"`. Defaults to `"keras"`.
    width: Factor for the number of hidden units. Defaults to `1.0`.
    dropout: Fraction of the units of each hidden dense layer that a step
      leaves out, in [0, 1). Defaults to `0.0`: no layer of dropout.
  """
  library = importlib.import_module(keras)
  hidden = [_scaled(units, width) for units in (300, 100)]
  dense = _dense(library, hidden, dropout)
  stack = [library.layers.Flatten(), *dense, _output(library, classes)]
  return library.Sequential([library.Input(input_shape), *stack])


def conv2(
  input_shape: tuple[int, ...],
  classes: int = 10,
  *,
  keras: str = "keras",
  width: float = 1.0,
  dropout: float = 0.0,
) -> Any:
  """The paper's Conv-2: two 3x3 convolutions of 64, a pool, 256, 256, classes.

  4,300,992 prunable weights for 32x32x3 images and 10 classes. Images without
  a channel axis get one. For the arguments see `lenet_300_100`.
  """
  return _conv_dense((64,), input_shape, classes, keras, width, dropout)


def conv4(
  input_shape: tuple[int, ...],
  classes: int = 10,
  *,
  keras: str = "keras",
  width: float = 1.0,
  dropout: float = 0.0,
) -> Any:
  """The paper's Conv-4: Conv-2 with two more convolutions of 128 and a pool.

  2,425,024 prunable weights for 32x32x3 images and 10 classes. See `conv2`.
  """
  return _conv_dense((64, 128), input_shape, classes, keras, width, dropout)


def conv6(
  input_shape: tuple[int, ...],
  classes: int = 10,
  *,
  keras: str = "keras",
  width: float = 1.0,
  dropout: float = 0.0,
) -> Any:
  """The paper's Conv-6: Conv-4 with two more convolutions of 256 and a pool.

  2,261,184 prunable weights for 32x32x3 images and 10 classes. The paper's
  figure 2 says 1.7 million, but its densities fit this count. See `conv2`.
  """
  return _conv_dense(
    (64, 128, 256), input_shape, classes, keras, width, dropout
  )


def resnet20(
  input_shape: tuple[int, ...],
  classes: int = 10,
  *,
  keras: str = "keras",
  width: float = 1.0,
  weight_decay: float = 0.0,
  dropout: float = 0.0,
) -> Any:
  """ResNet-20 for CIFAR (He et al., arXiv 1512.03385, section 4.2).

  It has three stages of three blocks, with 16, 32 and 64 filters. Stages 2 and
  3 begin with a stride of 2: there, the shortcut is a 1x1 convolution with
  batch normalisation, named `shortcut_2` and `shortcut_3`. Frankle and Carbin
  call this network Resnet-18. For 32x32x3 images and 10 classes, 267,696
  weights are in 3x3 convolutions, 2,560 in shortcuts and 640 in the output.

  Args:
    input_shape: Shape of one image. Images without a channel axis get one.
    classes: Number of classes.
    keras: `"keras"` (Keras 3) or `"tf_keras"`. Defaults to `"keras"`.
    width: Factor for the number of filters. Defaults to `1.0`.
    weight_decay: Factor of the weight decay, which adds
      `weight_decay * kernel` to the gradient. Defaults to `0.0`.
    dropout: Fraction of the inputs of the output layer that a step leaves out,
      in [0, 1). Defaults to `0.0`: no layer of dropout.
  """
  library = importlib.import_module(keras)
  layers = library.layers
  conv = functools.partial(_convolution, library, weight_decay=weight_decay)
  inputs = library.Input(input_shape)
  x = _apply(_as_image(library, input_shape), inputs)
  x = _apply([*conv(_scaled(16, width)), layers.ReLU()], x)
  for stage, filters in enumerate((16, 32, 64), 1):
    filters = _scaled(filters, width)
    for block in range(3):
      stride = 2 if stage > 1 and block == 0 else 1
      first = [*conv(filters, strides=stride), layers.ReLU()]
      branch = _apply([*first, *conv(filters)], x)
      if stride > 1:
        name = f"shortcut_{stage}"
        x = _apply(conv(filters, size=1, strides=stride, name=name), x)
      x = layers.ReLU()(layers.Add()([branch, x]))
  pooled = [layers.GlobalAveragePooling2D(), *_dropout(library, dropout)]
  output = _output(library, classes, weight_decay)
  return library.Model(inputs, _apply([*pooled, output], x))


def vgg19(
  input_shape: tuple[int, ...],
  classes: int = 10,
  *,
  keras: str = "keras",
  width: float = 1.0,
  weight_decay: float = 0.0,
  dropout: float = 0.0,
) -> Any:
  """The paper's VGG-19 for CIFAR, with batch normalisation.

  It has 16 convolutions of 3x3 (2 of 64, 2 of 128, 4 of 256, 8 of 512 filters)
  with four pools between them, an average pool and one dense layer. For 32x32x3
  images and 10 classes, 20,018,880 weights are in convolutions and 5,120 in the
  output. Simonyan and Zisserman, arXiv 1409.1556; Frankle and Carbin, arXiv
  1803.03635, appendix. For the arguments see `resnet20`.
  """
  library = importlib.import_module(keras)
  plan = [64] * 2 + [_POOL] + [128] * 2 + [_POOL] + [256] * 4 + [_POOL]
  plan += [512] * 4 + [_POOL] + [512] * 4
  stack = _as_image(library, input_shape)
  for filters in plan:
    if filters == _POOL:
      stack.append(library.layers.MaxPooling2D())
    else:
      filters = _scaled(filters, width)
      stack += _convolution(library, filters, weight_decay=weight_decay)
      stack.append(library.layers.ReLU())
  stack.append(library.layers.GlobalAveragePooling2D())
  stack += _dropout(library, dropout)
  stack.append(_output(library, classes, weight_decay))
  return library.Sequential([library.Input(input_shape), *stack])


def _scaled(units: int, width: float) -> int:
  return max(1, round(units * width))


def _conv_dense(
  blocks: tuple[int, ...],
  input_shape: tuple[int, ...],
  classes: int,
  keras: str,
  width: float,
  dropout: float,
) -> Any:
  """Builds blocks of two convolutions and a pool; then 256, 256, classes."""
  library = importlib.import_module(keras)
  conv = functools.partial(
    library.layers.Conv2D,
    kernel_size=3,
    padding="same",
    activation="relu",
    **_kernel(library),
  )
  stack = _as_image(library, input_shape)
  for filters in blocks:
    filters = _scaled(filters, width)
    stack += [conv(filters), conv(filters), library.layers.MaxPooling2D()]
  dense = _dense(library, [_scaled(256, width)] * 2, dropout)
  stack += [library.layers.Flatten(), *dense, _output(library, classes)]
  return library.Sequential([library.Input(input_shape), *stack])


def _convolution(
  library: Any,
  filters: int,
  *,
  size: int = 3,
  strides: int = 1,
  weight_decay: float,
  name: str | None = None,
) -> list[Any]:
  """Returns a convolution without biases, and its batch normalisation."""
  return [
    library.layers.Conv2D(
      filters,
      size,
      strides=strides,
      padding="same",
      use_bias=False,
      name=name,
      **_kernel(library, weight_decay),
    ),
    # With Keras's momentum of 0.99, the statistics lag behind the weights too
    # far for frequent evaluations.
    library.layers.BatchNormalization(momentum=0.9, epsilon=1e-5),
  ]


def _dense(library: Any, hidden: Iterable[int], dropout: float) -> list[Any]:
  """Returns dense layers, each with its dropout."""
  stack = []
  for units in hidden:
    stack.append(
      library.layers.Dense(units, activation="relu", **_kernel(library))
    )
    stack += _dropout(library, dropout)
  return stack


def _dropout(library: Any, fraction: float) -> list[Any]:
  """Returns a layer of dropout; none for a fraction of 0."""
  return [library.layers.Dropout(fraction)] if fraction else []


def _output(library: Any, classes: int, weight_decay: float = 0.0) -> Any:
  return library.layers.Dense(
    classes, activation="softmax", **_kernel(library, weight_decay)
  )


def _kernel(library: Any, weight_decay: float = 0.0) -> dict[str, Any]:
  """Returns the arguments of a layer for its initialiser and weight decay."""
  # The gradient of l2 * w ** 2 is twice l2 * w.
  decay = library.regularizers.L2(weight_decay / 2) if weight_decay else None
  return {"kernel_initializer": "glorot_normal", "kernel_regularizer": decay}


def _as_image(library: Any, input_shape: tuple[int, ...]) -> list[Any]:
  """Returns a layer that adds a channel axis to images that have none."""
  if len(input_shape) > 2:
    return []
  return [library.layers.Reshape((*input_shape, 1))]


def _apply(layers: Iterable[Any], x: Any) -> Any:
  return functools.reduce(lambda value, layer: layer(value), layers, x)
