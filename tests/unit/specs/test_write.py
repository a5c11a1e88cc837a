"""A written circuit reads back as itself, from another folder too; a write that fails leaves nothing half done."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from specs.load import read_circuit
from specs.write import write_circuit, write_whole


@pytest.mark.filterwarnings("error")
def test_a_circuit_reads_back(tmp_path: Path) -> None:
    given = read_circuit("benchmarks/suites/digits/mlp_certified/circuit.json")
    target = tmp_path / "below" / "circuit.json"
    target.parent.mkdir()
    write_circuit(given, target)
    found = read_circuit(target)
    assert os.path.samefile(found.model.path, given.model.path)
    assert (found.scope, found.kept, found.provenance) == (given.scope, given.kept, given.provenance)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "kept.json"
    target.write_text("old")

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="space"):
        write_whole("new", target)
    assert target.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["kept.json"]
