import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from tf_lottery import schedules
from tf_lottery.rewinding import Step


class TestGeometric:
  def test_prunes_a_fifth_of_what_is_left(self):
    assert schedules.geometric(3) == pytest.approx((0.8, 0.64, 0.512))

  def test_other_rate(self):
    assert schedules.geometric(2, rate=0.5) == (0.5, 0.25)

  def test_has_no_dense_level(self):
    assert len(schedules.geometric(24)) == 24
    assert schedules.geometric(24)[0] < 1

  @pytest.mark.parametrize("levels", [0, -3])
  def test_levels_out_of_range(self, levels):
    with pytest.raises(ValueError, match=f"levels .* at least 1, got {levels}"):
      schedules.geometric(levels)

  @pytest.mark.parametrize("rate", [0, 1, 1.5, -0.2, float("nan")])
  def test_rate_out_of_range(self, rate):
    with pytest.raises(
      ValueError, match=rf"rate must be in \(0, 1\), got {rate}\."
    ):
      schedules.geometric(3, rate=rate)


class TestOneShot:
  def test_has_one_level(self):
    assert schedules.one_shot(0.1) == (0.1,)

  @pytest.mark.parametrize("density", [0, 1.5, -0.1, float("nan")])
  def test_density_out_of_range(self, density):
    with pytest.raises(
      ValueError, match=rf"density must be in \(0, 1\], got {float(density)}"
    ):
      schedules.one_shot(density)


class TestLinear:
  def test_falls_by_equal_steps(self):
    assert schedules.linear(4, 0.2) == pytest.approx((0.8, 0.6, 0.4, 0.2))

  @pytest.mark.parametrize("levels", [0, -1])
  def test_levels_out_of_range(self, levels):
    with pytest.raises(ValueError, match=f"levels .* at least 1, got {levels}"):
      schedules.linear(levels, 0.5)

  @pytest.mark.parametrize("density", [0, 1.5, -0.1])
  def test_density_out_of_range(self, density):
    with pytest.raises(ValueError, match=rf"density .*\(0, 1.*got {density}"):
      schedules.linear(2, density)


class TestAnySchedule:
  @settings(max_examples=50, deadline=None)
  @given(
    levels=st.integers(1, 40),
    rate=st.floats(0.01, 0.9),
    density=st.floats(0.001, 0.99),
  )
  def test_the_usual_ones_are_schedules(self, levels, rate, density):
    for schedule in (
      schedules.geometric(levels, rate),
      schedules.linear(levels, density),
      schedules.one_shot(density),
    ):
      assert schedules.check_schedule(schedule) == schedule

  def test_check_gives_floats(self):
    assert schedules.check_schedule([1, 0.5]) == (1.0, 0.5)
    assert all(type(d) is float for d in schedules.check_schedule([1, 0.5]))

  @pytest.mark.parametrize(
    ("schedule", "words"),
    [
      ([0.5, 0.5], "got 0.5 after 0.5"),
      ([0.5, 0.25, 0.75], "got 0.75 after 0.25"),
      ([0.8, 0.0], r"density must be in \(0, 1\], got 0.0"),
      ([80, 64], r"density must be in \(0, 1\], got 80.0"),
    ],
  )
  def test_check_names_what_is_off(self, schedule, words):
    with pytest.raises(ValueError, match=words):
      schedules.check_schedule(schedule)


class TestStep:
  @pytest.mark.parametrize(
    ("text", "step"),
    [
      ("500it", Step(500, "it")),
      ("0it", Step(0, "it")),
      (" 2ep ", Step(2.0, "ep")),
      ("0.25ep", Step(0.25, "ep")),
      (500, Step(500, "it")),
      (0, Step(0, "it")),
      (Step(3, "ep"), Step(3, "ep")),
    ],
  )
  def test_parse(self, text, step):
    assert Step.parse(text) == step

  @pytest.mark.parametrize(
    "text",
    ["", "it", "2 epochs", "-1it", "1.5it", "2ep3it", ".5ep", -1, True, None],
  )
  def test_parse_names_what_it_got(self, text):
    with pytest.raises(ValueError, match=rf'like "500it".* got {text!r}\.'):
      Step.parse(text)

  @pytest.mark.parametrize(
    ("text", "iterations"),
    [("500it", 500), ("2ep", 1832), ("0.1ep", 92), ("0ep", 0)],
  )
  def test_iterations(self, text, iterations):
    assert Step.parse(text).iterations(steps_per_epoch=916) == iterations

  def test_iterations_is_a_whole_number(self):
    assert type(Step.parse("1.5ep").iterations(10)) is int
    assert type(Step.parse("15it").iterations(10)) is int

  @pytest.mark.parametrize("text", ["500it", "2ep", "1.5ep", "0it"])
  def test_text_is_what_was_read(self, text):
    assert str(Step.parse(text)) == text
    assert Step.parse(str(Step.parse(text))) == Step.parse(text)


def test_a_single_density_is_no_schedule():
  with pytest.raises(TypeError, match=r"For one density give one_shot\(0.2\)"):
    schedules.check_schedule(0.2)
