"""What scoring weights by a criterion takes."""

from tf_lottery import cost
from tf_lottery import criteria

# Name -> forward passes that each example is worth, where a criterion takes
# other ones than a training step, which are `cost.PASSES`. GraSP takes the
# gradient of each batch; then the gradient again, and the derivative of that,
# which is worth twice what it differentiates.
PASSES = {"grasp": 2 * cost.PASSES + 2 * cost.PASSES}
# Names of the criteria that compute on one example of their own.
ON_ONES = frozenset({"synflow"})


def price(criterion: criteria.Criterion, read: int) -> tuple[int, int]:
  """Returns on how many examples a criterion computes, and its passes on each.

  A gradient takes the forward pass, and two passes backward.

  Args:
    criterion: The criterion.
    read: The number of examples that it read.

  >>> from tf_lottery.criteria import grasp, snip, synflow
  >>> price(snip, 320), price(grasp, 320), price(synflow, 0)
  ((320, 3), (320, 12), (1, 3))
  """
  name = next(
    (n for n, known in criteria.BY_NAME.items() if known is criterion), ""
  )
  examples = 1 if name in ON_ONES else read
  return examples, PASSES.get(name, cost.PASSES)
