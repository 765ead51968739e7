import pytest

from tf_lottery.storage import schemas

LINE = b'{"step": 1, "seconds": 2.5, "val_loss": -3e-5}'


def test_usual_rows_are_those_of_the_parser_of_single_lines():
  content = LINE + b"\n" + LINE.replace(b"1", b"20") + b"\n"
  rows = schemas.parse_rows(content)
  assert rows == [schemas.parse(line) for line in content.splitlines()]
  assert isinstance(rows[0]["step"], int)
  assert schemas.parse_rows(LINE) == rows[:1]
  assert schemas.parse_rows(b"") == []


@pytest.mark.parametrize(
  "content",
  [
    LINE.replace(b"-3e-5", b"NaN"),
    LINE.replace(b"-3e-5", b"1e400"),
    LINE.replace(b"-3e-5", b"9" * 20),
    LINE.replace(b"-3e-5", b"null"),
    LINE.replace(b"step", b"st\\u0065p"),
    LINE.replace(b"1", b"-1"),
    LINE.replace(b"1", b"1.0"),
    LINE.replace(b"1", b"true"),
    LINE.replace(b'"step"', b'"val_loss": 1, "step"'),
    LINE.replace(b'"step"', b'"other"'),
    LINE + b" " + LINE,
    LINE.replace(b" ", b"\n"),
    LINE[:-3],
    b"\n" + LINE,
    b"[]",
    b"\xff",
  ],
)
def test_unusual_rows_are_left_to_the_parser_of_single_lines(content):
  assert schemas.parse_rows(content) is None
