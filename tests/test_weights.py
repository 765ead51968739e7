import pytest

from tf_lottery import weights
from tf_lottery.weights import PrunableReport
from tf_lottery.weights import Weight


def decide(
  role="kernel",
  classes=("Dense", "Layer"),
  shape=(3, 4),
  trainable=True,
  override=None,
  layer="fc",
):
  return weights.decide(
    f"0/{role}", layer, classes, role, shape, trainable, override
  )


def make_weight(key="0/kernel", layer="fc", kind="dense", **changes):
  fields = {"shape": (3, 4), "prunable": True, "reason": "a test"}
  role = key.split("/")[1]
  return Weight(key, layer, role, kind, **{**fields, **changes})


class TestRules:
  @pytest.mark.parametrize(
    ("classes", "role", "kind"),
    [
      (("Dense", "Layer"), "kernel", "dense"),
      (("EinsumDense", "Layer"), "kernel", "dense"),
      (("Conv1D", "BaseConv", "Layer"), "kernel", "conv"),
      (("Conv2D", "BaseConv", "Layer"), "kernel", "conv"),
      (("Conv3D", "BaseConv", "Layer"), "kernel", "conv"),
      (("Conv2DTranspose", "Conv2D", "Conv", "Layer"), "kernel", "conv"),
      (("SeparableConv2D", "Layer"), "pointwise_kernel", "conv"),
      (("Embedding", "Layer"), "embeddings", "embedding"),
      (("LSTMCell", "Layer"), "kernel", "recurrent"),
      (("LSTMCell", "Layer"), "recurrent_kernel", "recurrent"),
      (("GRUCell", "Layer"), "recurrent_kernel", "recurrent"),
      (("SimpleRNNCell", "Layer"), "kernel", "recurrent"),
    ],
  )
  def test_the_work_of_a_layer_is_prunable(self, classes, role, kind):
    weight = decide(role, classes)
    assert weight.prunable
    assert weight.kind == kind
    assert weight.reason == f"the {role} of {classes[0]} layers"

  def test_a_subclass_follows_its_ancestor(self):
    weight = decide(classes=("MyDense", "Dense", "Layer"))
    assert weight.prunable
    assert weight.reason == "the kernel of Dense layers"

  @pytest.mark.parametrize(
    ("classes", "role", "shape"),
    [
      (("Dense", "Layer"), "bias", (4,)),
      (("EinsumDense", "Layer"), "bias", (2, 4)),
      (("Conv2D", "Layer"), "bias", (4,)),
      (("LSTMCell", "Layer"), "bias", (16,)),
      (("GRUCell", "Layer"), "bias", (2, 12)),
    ],
  )
  def test_biases_are_not(self, classes, role, shape):
    weight = decide(role, classes, shape)
    assert not weight.prunable
    assert "bias" in weight.reason

  @pytest.mark.parametrize("role", ["gamma", "beta", "scale", "weight"])
  @pytest.mark.parametrize("shape", [(16,), (1, 16), (4, 4, 16)])
  @pytest.mark.parametrize(
    "name", ["BatchNormalization", "LayerNormalization", "GroupNormalization"]
  )
  def test_scales_are_not_whatever_they_are_called(self, role, shape, name):
    weight = decide(role, (name, "Layer"), shape, layer="conv_kernel_weight")
    assert not weight.prunable
    assert weight.kind == "other"

  @pytest.mark.parametrize("role", ["moving_mean", "moving_variance", "count"])
  def test_statistics_are_not(self, role):
    weight = decide(role, ("BatchNormalization",), (16,), trainable=False)
    assert not weight.prunable
    assert not weight.trainable
    assert "not trainable" in weight.reason

  @pytest.mark.parametrize(
    ("classes", "role"),
    [
      (("DepthwiseConv2D", "Conv2D", "Layer"), "depthwise_kernel"),
      (("DepthwiseConv1D", "Layer"), "kernel"),
      (("SeparableConv1D", "Layer"), "depthwise_kernel"),
    ],
  )
  def test_depthwise_kernels_are_not_unless_chosen(self, classes, role):
    weight = decide(role, classes, (3, 3, 8, 1))
    assert not weight.prunable
    assert "depthwise kernels are small" in weight.reason
    assert "prunable=" in weight.reason
    assert decide(role, classes, (3, 3, 8, 1), override=lambda _: True).prunable

  def test_an_unknown_layer_is_named(self):
    weight = decide("matrix", ("Hyper", "Layer"))
    assert not weight.prunable
    assert weight.kind == "other"
    assert "Hyper are not known" in weight.reason
    assert "prunable=" in weight.reason

  @pytest.mark.parametrize("shape", [(), (7,)])
  def test_a_vector_of_an_unknown_layer(self, shape):
    assert decide("scale", ("Hyper",), shape).reason.startswith("a vector or")

  def test_what_was_given_is_in_the_weight(self):
    weight = weights.decide("3/kernel", "fc", ["Dense"], "kernel", [3, 4], True)
    assert weight.key == "3/kernel"
    assert weight.name == "fc/kernel"
    assert weight.shape == (3, 4)
    assert weight.size == 12
    assert weight.trainable


class TestOverride:
  def test_excludes(self):
    weight = decide(override=lambda weight: weight.layer != "fc")
    assert not weight.prunable
    assert weight.reason == "excluded by the caller"

  def test_chooses(self):
    weight = decide("matrix", ("Hyper",), override=lambda _: True)
    assert weight.prunable
    assert weight.reason == "chosen by the caller"

  @pytest.mark.parametrize("override", [lambda _: None, {}, {"other": False}])
  def test_leaves_the_rules_alone(self, override):
    assert decide(override=override) == decide()

  def test_saying_what_the_rules_say_keeps_their_reason(self):
    assert decide(override=lambda _: True) == decide()

  def test_sees_what_the_rules_decided(self):
    seen = []
    decide("bias", shape=(4,), override=seen.append)
    assert seen == [decide("bias", shape=(4,))]

  @pytest.mark.parametrize("wanted", [True, False])
  def test_by_layer_name(self, wanted):
    weight = decide("matrix", ("Hyper",), override={"fc": wanted})
    assert weight.prunable == wanted

  def test_a_layer_name_does_not_mean_its_bias(self):
    weight = decide("bias", shape=(4,), override={"fc": True})
    assert not weight.prunable

  def test_cannot_choose_what_no_optimizer_updates(self):
    weight = decide(trainable=False, override=lambda _: True)
    assert not weight.prunable
    assert weight.reason == "not trainable: no optimizer updates it"


class TestMatches:
  @pytest.mark.parametrize(
    "pattern", ["dense", "fc_2", "fc_*", "*", "f?_2", "1/kernel"]
  )
  def test_matches(self, pattern):
    assert make_weight("1/kernel", "fc_2").matches(pattern)

  @pytest.mark.parametrize(
    "pattern", ["conv", "fc", "FC_2", "den*", "1/*", "kernel", "output", ""]
  )
  def test_does_not_match(self, pattern):
    assert not make_weight("1/kernel", "fc_2").matches(pattern)

  def test_output(self):
    assert make_weight(is_output=True).matches("output")

  def test_a_layer_called_output(self):
    assert make_weight(layer="output").matches("output")


class TestReport:
  @pytest.fixture
  def report(self):
    return PrunableReport(
      [
        make_weight("0/kernel", "conv", "conv", shape=(3, 3, 1, 2)),
        make_weight("0/bias", "conv", "conv", shape=(2,), prunable=False),
        make_weight("1/kernel", "fc", shape=(8, 4)),
        make_weight("2/kernel", "out", shape=(4, 2)),
        make_weight("2/bias", "out", shape=(2,), prunable=False),
      ]
    )

  def test_is_a_sequence(self, report):
    assert len(report) == 5
    assert [weight.key for weight in report][:2] == ["0/kernel", "0/bias"]
    assert report[-1].key == "2/bias"
    assert [weight.key for weight in report[1:3]] == ["0/bias", "1/kernel"]

  def test_by_key(self, report):
    assert report["1/kernel"].shape == (8, 4)
    with pytest.raises(KeyError, match="9/kernel"):
      report["9/kernel"]

  def test_prunable(self, report):
    keys = [weight.key for weight in report.prunable]
    assert keys == ["0/kernel", "1/kernel", "2/kernel"]

  def test_the_last_prunable_weight_is_the_output(self, report):
    outputs = [weight.key for weight in report if weight.is_output]
    assert outputs == ["2/kernel"]
    assert report["2/kernel"].is_output

  def test_an_old_mark_of_output_does_not_stay(self):
    report = PrunableReport(
      [make_weight("0/kernel", is_output=True), make_weight("1/kernel")]
    )
    assert [weight.is_output for weight in report] == [False, True]

  def test_prints_what_and_why(self, report):
    lines = str(report).splitlines()
    assert lines[0].split() == ["weight", "shape", "prunable", "because"]
    assert lines[1].split() == ["conv/kernel", "3x3x1x2", "yes", "a", "test"]
    assert lines[2].split()[:3] == ["conv/bias", "2", "no"]
    assert lines[-1] == "58 of 62 parameters are prunable."

  def test_prints_a_scalar(self):
    report = PrunableReport([make_weight("0/seed", shape=(), prunable=False)])
    assert "scalar" in str(report)

  def test_of_no_weights(self):
    assert not PrunableReport([]).prunable
    assert "0 of 0 parameters" in str(PrunableReport([]))
