"""Seeds of what controls draw."""

import zlib

from tf_lottery.search.loop import Search


def of_control(search: Search, control: str, level: int, draw: int) -> int:
  """Returns a seed of its own for each draw, and never the search's."""
  return zlib.crc32(f"{search.seed} {control} {level} {draw}".encode()) >> 1
