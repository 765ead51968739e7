"""The figures of one experiment, drawn from its evidence."""

import functools
import math
import pathlib
from collections.abc import Sequence

import numpy as np

from tf_lottery import masks
from tf_lottery.analysis.masks import overlap
from tf_lottery.report import drawing
from tf_lottery.report import figures
from tf_lottery.report import mask_figures
from tf_lottery.report import records
from tf_lottery.report import summaries
from tf_lottery.report import wording
from tf_lottery.report import workers
from tf_lottery.report.drawing import Picture
from tf_lottery.report.drawing import Sketch
from tf_lottery.report.evidence import Evidence

# The densities of figures 1 and 3 of Frankle and Carbin, and some lower ones.
_CHOSEN = (0.513, 0.211, 0.135, 0.07, 0.036, 0.012)
_MAPPED = (0.513, 0.211, 0.07, 0.036, 0.012)


def pictures(
  found: Sequence[Evidence], folder: pathlib.Path, prefixes: Sequence[str]
) -> list[list[Picture]]:
  """Draws the figures of some experiments, and writes them into a folder.

  Args:
    found: The runs of each experiment and their statistics.
    folder: The folder for the SVG and PNG files.
    prefixes: For each experiment, the beginning of the names of files and of
      the ids in the page.

  Returns:
    For each experiment its figures, without those for which there is nothing
    to draw.
  """
  plans = [
    (number, prefixes[number] + name, caption, alt, function)
    for number, evidence in enumerate(found)
    for name, caption, alt, function in sketches(evidence)
  ]
  jobs = [
    functools.partial(drawing.draw, function, name, folder / name)
    for _, name, _, _, function in plans
  ]
  drawn: list[list[Picture]] = [[] for _ in found]
  for plan, svg in zip(plans, workers.run(jobs), strict=True):
    number, name, caption, alt, _ = plan
    if svg is not None:
      wide = name.endswith("input")
      drawn[number].append(Picture(name, caption, alt, svg, wide=wide))
  return drawn


def sketches(evidence: Evidence) -> list[Sketch]:
  """Returns all figures of an experiment before they are drawn."""
  return [
    *(_values(evidence, when) for when in summaries.MOMENTS),
    _early_stop(evidence),
    _curves(evidence),
    *_of_masks(evidence),
    *_overlap(evidence),
  ]


def _values(evidence: Evidence, when: str) -> Sketch:
  what = f"{evidence.metric} {wording.WHEN[when]}"
  return _against_density(
    evidence,
    f"{evidence.monitor}-{when}",
    evidence.fields[when],
    what,
    f"{wording.capital(what)} against the weights that remain.",
  )


def _early_stop(evidence: Evidence) -> Sketch:
  return _against_density(
    evidence,
    "early-stop",
    summaries.STEP,
    "step of the early stop",
    "Step at which the validation loss is at its minimum, found after"
    " training. A network with a lower step learned faster.",
  )


def _against_density(
  evidence: Evidence, name: str, measure: str, what: str, caption: str
) -> Sketch:
  """Returns the figure of one measure, for all methods at all Levels."""
  rows = evidence.summary(measure)
  is_step = measure == summaries.STEP
  percent = evidence.percent and not is_step
  if all(row.draws == 1 for row in rows):
    caption += " Each point is one training."
  else:
    caption += (
      " Lines are means over replicates; bars, and the band of the dense"
      " network, go from minimum to maximum."
    )
  if any(0 < n < evidence.replicates for n in evidence.finished.values()):
    caption += " Some Levels are means over fewer replicates than others."
  sign = None if is_step else evidence.sign
  tolerance = evidence.tolerance_at()
  if sign is not None and figures.scale_of(rows, sign, tolerance):
    caption += (
      " In the shaded part the scale is compressed, so that values far from"
      " the dense network's are shown too."
    )
  draw = functools.partial(
    figures.against_density,
    rows,
    _label(what if is_step else evidence.metric, percent),
    percent=percent,
    sign=sign,
    tolerance=tolerance,
    whole=is_step,
    wide=measure == evidence.fields[summaries.HEADLINE],
  )
  return name, caption, _alt(what, rows, percent), draw


def _label(name: str, percent: bool) -> str:
  """Returns the label of an axis, with its unit."""
  return f"{name}, %" if percent else name


def _alt(what: str, rows: Sequence[summaries.Summary], percent: bool) -> str:
  """Writes the first and the last value of each line."""
  parts = []
  for method in figures.in_order(rows):
    line = [row for row in rows if row.method == method]
    values = [wording.value(row.mean, percent, row.measure) for row in line]
    text = f"{drawing.style(method).label} {values[0]}"
    if method != "dense":
      text += f" at {wording.density(line[0].density)} of the weights"
    if len(line) > 1:
      text += f" and {values[-1]} at {wording.density(line[-1].density)}"
    parts.append(text)
  return f"Line chart, {what}: {'; '.join(parts)}."


def _curves(evidence: Evidence) -> Sketch:
  lines = []
  for level, density in _levels(evidence, _CHOSEN, dense=True):
    steps, values = _mean_curve(evidence, level)
    lines.append((density, steps, values))
  name = f"validation {evidence.monitor.replace('_', ' ')}"
  among = ", ".join(wording.density(density) for density, *_ in lines[1:])
  return (
    "curves",
    f"{wording.capital(name)} as training goes on, mean over replicates: the"
    " dense network, and tickets by the weights that remain. Steps count from"
    " the start of each training. Values of the first twentieth of training may"
    " lie outside of the axes.",
    f"Line chart of {name} by training step for the dense network and for"
    f" tickets of {among or 'no other density yet'}.",
    functools.partial(
      figures.curves,
      lines,
      _label(name, evidence.percent),
      percent=evidence.percent,
      sign=evidence.sign,
      tolerance=evidence.tolerance_at(),
    ),
  )


def _levels(
  evidence: Evidence, chosen: Sequence[float], dense: bool
) -> list[tuple[int, float]]:
  """Returns the Levels nearest to some densities, with their own densities.

  If no Level is near any of them, the first and the last one with tickets.
  """
  rounds = [r for r in evidence.rounds if not r.stopped]
  densities = (
    summaries.level_densities(rounds)
    if dense
    else {level: mask.density for level, (mask, _) in evidence.masks.items()}
  )
  sparse = [level for level in densities if level]
  nearest = {0} if dense and 0 in densities else set()
  for near in chosen if sparse else ():
    level = min(sparse, key=lambda x: abs(math.log(densities[x] / near)))
    if abs(math.log(densities[level] / near)) < math.log(1.5):
      nearest.add(level)
  if sparse and not nearest - {0}:
    nearest |= {sparse[0], sparse[-1]}
  return [(level, densities[level]) for level in sorted(nearest)]


def _mean_curve(
  evidence: Evidence, level: int
) -> tuple[list[int], list[float]]:
  """Returns the steps that all replicates share, and the mean at each.

  Steps count from the start of each Round. Where some replicates are done, only
  those are taken.
  """
  rounds = [
    r
    for r in evidence.compared
    if r.level == level and r.method in ("dense", "ticket") and not r.stopped
  ]
  curves = [
    dict(round_.curve) for round_ in [r for r in rounds if r.done] or rounds
  ]
  if not curves:
    return [], []
  steps = sorted(set.intersection(*map(set, curves)))
  return steps, [float(np.mean([c[step] for c in curves])) for step in steps]


def _of_masks(evidence: Evidence) -> list[Sketch]:
  """Returns the figures that show the masks of the first replicate."""
  found = evidence.masks
  if not found:
    return []
  names = next(iter(found.values()))[1]
  same = {k: m for k, (m, own) in found.items() if own == names and m.kept}
  sketches = [_layers(list(same.values()), names)] if same else []
  layers = evidence.runs[0].declaration.get("layers", [])
  if any(layer.get("class") == "Flatten" for layer in layers):
    mapped = [k for k, _ in _levels(evidence, _MAPPED, dense=False)]
    sketches += _input_maps([same[k] for k in mapped if k in same])
  return sketches


def _overlap(evidence: Evidence) -> list[Sketch]:
  """Returns the figure of the overlap between the replicates' tickets."""
  first = evidence.masks
  overlaps = [
    overlap(first[level][0], file.mask)
    for run in evidence.runs[1:]
    for level, control, _, round_ in run.directory.rounds()
    if level in first and level and not control
    if (file := records.read_ticket(round_))
    if file.mask.shapes == first[level][0].shapes
  ]
  if not overlaps:
    return []
  name, caption, alt, draw = mask_figures.overlap(overlaps)
  pairs = "Tickets of the first replicate and of each other one at one Level. "
  return [(name, pairs + caption, alt, draw)]


def _layers(by_level: Sequence[masks.Mask], names: Sequence[str]) -> Sketch:
  tables = [mask.table() for mask in by_level]
  by_layer = [
    (
      name,
      [table[number].kept / max(table[number].size, 1) for table in tables],
    )
    for number, name in enumerate(names)
  ]
  ends = "; ".join(
    f"{name} {wording.density(values[-1])}" for name, values in by_layer[:12]
  )
  return (
    "layers",
    "Density of each layer against the density of the whole network, in the"
    " first replicate. Layers above the dotted line are pruned less than the"
    " rest.",
    f"Line chart of the density of each layer; at the last Level: {ends}.",
    functools.partial(
      figures.layers, [mask.density for mask in by_level], by_layer
    ),
  )


def _input_maps(by_level: Sequence[masks.Mask]) -> list[Sketch]:
  """Returns the figure of where on its input the first layer keeps weights.

  There is none unless the layer is dense and its input can be an image.
  """
  maps = []
  for mask in by_level:
    kept = next(iter(mask.values()))
    if shape := image_shape(kept.shape):
      counts = kept.sum(axis=1).reshape(shape).sum(axis=-1)
      maps.append((mask.density, counts))
  if not maps:
    return []
  shown = ", ".join(wording.density(density) for density, _ in maps)
  return [
    (
      "input",
      "Number of weights that the first layer keeps at each pixel of its input,"
      " relative to the mean pixel of the same ticket. Above each map stand the"
      " weights that remain in the network. First replicate.",
      f"Maps of the input's pixels at {shown} of the weights: brighter pixels"
      " keep more of their weights in the first layer.",
      functools.partial(figures.input_maps, maps),
    )
  ]


def image_shape(shape: Sequence[int]) -> tuple[int, int, int] | None:
  """Returns the shape of the square images that a dense layer may take.

  Args:
    shape: The shape of the layer's kernel.

  Returns:
    Height, width and channels (1 or 3); None if the layer has no square number
    of inputs, or fewer than 4 x 4 pixels.
  """
  if len(shape) != 2:
    return None
  for channels in (1, 3):
    side = math.isqrt(shape[0] // channels)
    if side >= 4 and side * side * channels == shape[0]:
      return side, side, channels
  return None
