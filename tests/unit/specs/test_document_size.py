"""Documents of very many values are refused before they are read: a parser's time and memory grow with them."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from specs.document import MAX_VALUES, read_document
from specs.errors import InputError


@pytest.mark.parametrize("suffix", ["json", "yaml"])
def test_ten_million_values(suffix: str, tmp_path: Path) -> None:
    file = tmp_path / f"circuit.{suffix}"
    file.write_text('{"kept": [' + "0," * 10**7 + "0]}")
    began = time.process_time()
    with pytest.raises(InputError, match=f"10000000 values; at most {MAX_VALUES // (4 if suffix == 'yaml' else 1)}"):
        read_document(str(file))
    assert time.process_time() - began < 2
