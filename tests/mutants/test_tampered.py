"""Certificates tampered with. As they are, content hashes reject every change. With hashes made anew, what matters is that a
false claim is never confirmed, whatever a certificate says; a true one may be, if what is left still proves it."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import verify
from specs.errors import InputError
from tests.unit.verify.check.questions import LINF, MINIMAL, found_minimal, runs, written
from verify.check.certificate import MANIFEST, PROOF, confirm, digest, sha256_of
from verify.check.claim import read_question
from verify.check.interval import Rejected
from verify.check.minimality import LEVELS, covered, dearer, kept_of
from verify.check.witness import Witnesses

FEW, MANY = 60, 1000


@pytest.fixture(scope="module")
def true(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate with trees, in `cert` of a folder with all that it names."""
    folder = tmp_path_factory.mktemp("true")
    circuit, spec = written(folder, {**LINF, "epsilon": 0.4}, tolerance=0.176)
    report = verify.certify(circuit, spec=spec, certificate=folder / "cert")
    assert report.verdict == "certified" and confirm(folder / "cert").leaves > 10
    return folder


@pytest.fixture
def copy(true: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(true, tmp_path / "copy"))


def _confirmed(folder: Path) -> bool:
    try:
        with np.errstate(all="ignore"):
            confirm(folder / "cert")
    except (Rejected, InputError):
        return False
    return True


def _rehashed(folder: Path, arrays: dict[str, np.ndarray] | None = None, **entries: Any) -> None:
    """Make every hash fit again."""
    cert = folder / "cert"
    if arrays is not None:
        stream = io.BytesIO()
        np.savez_compressed(stream, **arrays)  # pyright: ignore[reportArgumentType]
        (cert / PROOF).write_bytes(stream.getvalue())
    manifest = json.loads((cert / MANIFEST).read_text()) | entries
    for key in ("circuit", "spec", "model"):
        manifest[key]["sha256"] = sha256_of(cert / manifest[key]["path"])
    manifest["proof"] = sha256_of(cert / PROOF)
    manifest["sha256"] = digest(manifest)
    (cert / MANIFEST).write_text(json.dumps(manifest))


def _arrays(folder: Path) -> dict[str, np.ndarray]:
    with np.load(folder / "cert" / PROOF) as found:
        return {name: found[name] for name in found.files}


def _document(folder: Path, name: str, change: Callable[[Any], None]) -> None:
    value = json.loads((folder / name).read_text())
    change(value)
    (folder / name).write_text(json.dumps(value))


def _flip_any_bit(folder: Path, count: int) -> None:
    """One bit of either file of the certificate, or of a file that it names."""
    files = [
        folder / "cert" / PROOF,
        folder / "cert" / MANIFEST,
        folder / "circuit.json",
        folder / "spec.yaml",
        folder / "net.onnx",
    ]
    before = {file: file.read_bytes() for file in files}
    rng = np.random.default_rng(count)
    for i in range(count):
        file = files[0] if i % 2 else files[int(rng.integers(len(files)))]
        content = bytearray(before[file])
        content[int(rng.integers(len(content)))] ^= 1 << int(rng.integers(8))
        file.write_bytes(bytes(content))
        assert not _confirmed(folder), f"{file.name}, change {i}"
        file.write_bytes(before[file])
    assert _confirmed(folder)


def test_any_flipped_bit_is_rejected(copy: Path) -> None:
    _flip_any_bit(copy, FEW)


@pytest.mark.slow
def test_any_of_many_flipped_bits_is_rejected(copy: Path) -> None:
    _flip_any_bit(copy, MANY)


CHANGES: dict[str, Callable[[Path], None]] = {
    "a widened tolerance": lambda f: _document(f, "spec.yaml", lambda v: v["agreement"].update(tolerance=1.0)),
    "a smaller region": lambda f: _document(f, "spec.yaml", lambda v: v["input"].update(epsilon=0.01)),
    "another mask": lambda f: _document(f, "circuit.json", lambda v: v["kept"].update(act_0="all")),
    "a swapped hash": lambda f: _document(f / "cert", MANIFEST, lambda v: v["model"].update(sha256="0" * 64)),
    "another verdict": lambda f: _document(f / "cert", MANIFEST, lambda v: v.update(verdict="falsified")),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_without_new_hashes_is_rejected(change: str, copy: Path) -> None:
    CHANGES[change](copy)
    assert not _confirmed(copy)


def test_a_swapped_hash_of_a_whole_manifest_is_rejected(copy: Path) -> None:
    path = copy / "cert" / MANIFEST
    manifest = json.loads(path.read_text())
    manifest["model"]["sha256"] = manifest["spec"]["sha256"]
    manifest["sha256"] = digest(manifest)
    path.write_text(json.dumps(manifest))
    with pytest.raises(Rejected, match="model"):
        confirm(copy / "cert")


def _leafless(arrays: dict[str, np.ndarray]) -> Iterator[dict[str, np.ndarray]]:
    """Certificates with a leaf dropped, or a subtree, or everything."""
    tensor = arrays["0.tensor"]
    leaves = np.flatnonzero(tensor < 0)
    for number, at in enumerate(leaves[: FEW // 4]):
        yield arrays | {"0.tensor": np.delete(tensor, at), "0.slopes": np.delete(arrays["0.slopes"], number, 0)}
        yield arrays | {"0.tensor": np.delete(tensor, at)}
        yield arrays | {"0.slopes": np.delete(arrays["0.slopes"], number, 0)}
    yield arrays | {name: arrays[name][:0] for name in arrays}
    yield arrays | {"0.multipliers": arrays["0.multipliers"][:-1]}
    yield arrays | {"0.goal": arrays["0.goal"][:-1]}
    for name in arrays:
        yield {key: value for key, value in arrays.items() if key != name}


def test_dropped_leaves_are_rejected_with_hashes_made_anew(copy: Path) -> None:
    for arrays in _leafless(_arrays(copy)):
        _rehashed(copy, arrays)
        assert not _confirmed(copy)


def _tampered(arrays: dict[str, np.ndarray], rng: np.random.Generator) -> dict[str, np.ndarray]:
    """One array changed in some way: bits, signs, sizes, order, what is no number."""
    found = {name: value.copy() for name, value in arrays.items()}
    name = str(rng.choice([name for name in sorted(found) if found[name].size]))
    array = found[name]
    way = int(rng.integers(6))
    at = tuple(int(rng.integers(n)) for n in array.shape)
    if way == 0:
        content = bytearray(array.tobytes())
        for _ in range(int(rng.integers(1, 20))):
            content[int(rng.integers(len(content)))] ^= 1 << int(rng.integers(8))
        found[name] = np.frombuffer(bytes(content), array.dtype).reshape(array.shape)
    elif way == 1 and array.dtype.kind == "f":
        array[at] = rng.choice([-1.0, np.nan, np.inf, -np.inf, 1e30, -1e30, 1e300])
    elif way == 2:
        found[name] = rng.permutation(array)
    elif way == 3 and array.dtype.kind in "iu":
        array[at] = rng.choice(array.ravel())
    elif way == 4:
        found[name] = array[: int(rng.integers(len(array)))]
    elif array.dtype.kind == "f":
        array *= rng.choice([-1.0, 10.0, 1e6])
    else:
        array[...] = array[at]
    return found


def _deviation(folder: Path) -> float:
    rng = np.random.default_rng(0)
    question = read_question(folder / "circuit.json", folder / "spec.yaml")
    seen = (runs(question, question.claims[0], rng) for _ in range(300))
    return max(float(np.abs(c["y"] - y["y"]).max()) for y, _, c in seen)


def _false_claims(folder: Path) -> list[Callable[[], None]]:
    """Ways to make the claim false: by a tolerance below a deviation that is there, or by a circuit that loses more."""
    deviation = _deviation(folder)
    return [
        lambda: _document(folder, "spec.yaml", lambda v: v["agreement"].update(tolerance=deviation * 0.999)),
        lambda: _document(folder, "circuit.json", lambda v: v["kept"].update(act_1=[0])),
        lambda: _document(folder, "circuit.json", lambda v: v["kept"].update(act_1="none")),
    ]


def _never(folder: Path, count: int) -> None:
    """With all hashes made anew, no tampered certificate of a false claim is confirmed."""
    arrays = _arrays(folder)
    made = _false_claims(folder)
    originals = {name: (folder / name).read_text() for name in ("circuit.json", "spec.yaml")}
    rng = np.random.default_rng(count)
    for i in range(count):
        made[i % len(made)]()
        assert i >= len(made) or _deviation(folder) > json.loads((folder / "spec.yaml").read_text())["agreement"]["tolerance"]
        _rehashed(folder, arrays if i < len(made) else _tampered(arrays, rng))
        assert not _confirmed(folder), f"change {i}"
        for name, content in originals.items():
            (folder / name).write_text(content)


def test_no_tampering_confirms_a_false_claim(copy: Path) -> None:
    _never(copy, FEW)


@pytest.mark.slow
def test_no_tampering_of_many_confirms_a_false_claim(copy: Path) -> None:
    _never(copy, MANY)


def test_a_witness_that_is_none_is_rejected(tmp_path: Path) -> None:
    circuit, spec = written(tmp_path, tolerance=0.01)
    report = verify.certify(circuit, spec=spec, certificate=tmp_path / "cert")
    assert report.verdict == "falsified" and _confirmed(tmp_path)
    arrays = _arrays(tmp_path)
    x = arrays["witness.input"]
    outside = x.copy()
    outside[0, 0, 0] = np.nextafter(np.float32(0.6), np.float32(1))
    patched = arrays["witness.patch.0"].copy()
    patched[0, 0, 5] = 1e-3
    center = np.array([[[0.5, 0.4, 0.3, 0.2]]], np.float32)
    for change in (
        {"witness.input": outside},
        {"witness.input": x[0]},
        {"witness.input": x.astype(np.float64)},
        {"witness.input": x * np.float32(np.nan)},
        {"witness.patch.0": patched},
        {"witness.claim": np.array([1])},
        {"witness.claim": np.array([-1])},
        {"witness.claim": np.array(0)},
        {"witness.claim": np.zeros(0, np.int32)},
    ):
        _rehashed(tmp_path, arrays | change)
        assert not _confirmed(tmp_path), change
    _document(tmp_path, "spec.yaml", lambda v: v["agreement"].update(tolerance=report.deviation))
    _rehashed(tmp_path, arrays)
    assert not _confirmed(tmp_path), "a deviation that is the tolerance is no violation"
    _rehashed(tmp_path, arrays | {"witness.input": center}, verdict="certified")
    assert not _confirmed(tmp_path)


@pytest.fixture(scope="module", params=["cardinal, monotone", "subset, not monotone"])
def minimal(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate of minimality, with all that it names."""
    folder = tmp_path_factory.mktemp("minimal")
    return found_minimal(folder, *MINIMAL[request.param])


def _stated(folder: Path, **entries: Any) -> None:
    _rehashed(folder, minimality=json.loads((folder / "cert" / MANIFEST).read_text())["minimality"] | entries)


def test_more_than_is_shown_of_minimality_is_rejected(minimal: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(minimal, tmp_path / "copy"))
    found = confirm(folder / "cert")
    assert found.level in ("subset", "cardinal") and found.refuted >= found.upper > 0
    for entries in (
        {"lower": found.upper + 1},
        {"lower": "nan"},
        {"lower": float("nan")},
        {"lower": -1},
        {"level": "cardinal"} if found.level == "subset" else {"level": "global"},
        {"level": None},
    ):
        _stated(folder, **{"level": found.level, "lower": found.lower} | entries)
        assert not _confirmed(folder), entries
    for level in LEVELS[: LEVELS.index(found.level) + 1]:
        _stated(folder, level=level, lower=0)
        assert confirm(folder / "cert").level == level


def test_a_refuted_circuit_less_is_rejected(minimal: Path, tmp_path: Path) -> None:
    """Each refutation that the level rests on is needed; a sample of them."""
    folder = Path(shutil.copytree(minimal, tmp_path / "copy"))
    arrays, found = _arrays(folder), confirm(folder / "cert")
    count = len(arrays["refuted.kept"])
    for i in range(0, count, max(1, count // 6)):
        _rehashed(folder, arrays | {name: np.delete(arrays[name], i, 0) for name in ("refuted.kept", "refuted.witness")})
        assert found.level == "cardinal" or not _confirmed(folder), i
    _rehashed(folder, arrays | {name: arrays[name][:0] for name in ("refuted.kept", "refuted.witness")})
    assert not _confirmed(folder)


def _claimed(arrays: dict[str, np.ndarray], rng: np.random.Generator) -> dict[str, np.ndarray]:
    """A circuit said to be refuted that is not the one that the witness was tried on: one kept component more or less."""
    kept = arrays["refuted.kept"].copy()
    row, bit = int(rng.integers(len(kept))), int(rng.integers(16))
    kept[row, bit // 8] ^= 1 << bit % 8
    return arrays | {"refuted.kept": kept}


def test_no_tampering_refutes_a_faithful_circuit(minimal: Path, tmp_path: Path) -> None:
    """Whatever is changed, a circuit that is certified is never confirmed as refuted, nor a level that does not hold."""
    folder = Path(shutil.copytree(minimal, tmp_path / "copy"))
    arrays, rng = _arrays(folder), np.random.default_rng(0)
    question = read_question(folder / "circuit.json", folder / "spec.yaml")
    everything = np.full((1, 2), 255, np.uint8)
    _rehashed(folder, arrays | {"refuted.kept": everything, "refuted.witness": np.zeros(1, np.int32)})
    _stated(folder, level="none", lower=0)
    assert not _confirmed(folder), "the model itself refuted"
    for i in range(FEW // 5):
        _rehashed(folder, _claimed(arrays, rng) if i % 2 else _tampered(arrays, rng))
        _stated(folder, level="none", lower=0)
        if _confirmed(folder):
            # What is still confirmed is so: the witness that is named violates the claim on the circuit that is named.
            found = _arrays(folder)
            witnesses = Witnesses(question, found)
            for bits, number in zip(found["refuted.kept"], found["refuted.witness"], strict=True):
                witnesses.confirm(int(number), kept_of(question, int.from_bytes(bits.tobytes(), "little")))


@pytest.fixture(scope="module")
def listed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate of all minimal circuits, with all that it names."""
    folder = tmp_path_factory.mktemp("listed")
    closed = {"kind": "closed", "closed": {**LINF, "epsilon": 0.2}}
    circuit, spec = written(folder, {**LINF, "epsilon": 0.01}, closed, 0.15, seed=2)
    _document(
        folder, "spec.yaml", lambda v: v.update(minimality="subset", model={"path": "net.onnx"}, scope={"act_0": "neuron"})
    )
    found = verify.discover(None, spec, out=circuit, certificate=folder / "cert", enumerate_all=True, timeout_s=120)
    assert found.report.enumeration is not None and found.report.enumeration.complete
    assert len(found.report.enumeration.circuits) == confirm(folder / "cert").listed
    return folder


def test_a_list_of_all_minimal_circuits_is_confirmed_whole(listed: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(listed, tmp_path / "copy"))
    arrays, found = _arrays(folder), confirm(folder / "cert")
    count = len(arrays["listed.kept"])
    assert found.complete and found.listed == count > 1
    for k in range(count):
        names = {f"listed.{j + (j >= k)}.": f"listed.{j}." for j in range(count - 1)}
        fewer = {n: v for n, v in arrays.items() if not n.startswith("listed.")}
        fewer["listed.kept"] = np.delete(arrays["listed.kept"], k, 0)
        for old, new in names.items():
            fewer |= {n.replace(old, new, 1): v for n, v in arrays.items() if n.startswith(old)}
        _rehashed(folder, fewer)
        assert not _confirmed(folder), "a list that lacks one is not complete"
        _stated(folder, complete=False)
        assert confirm(folder / "cert").listed == count - 1
        _stated(folder, complete=True)
    for k, bit in np.ndindex(count, 8):
        kept = arrays["listed.kept"].copy()
        kept[k, 0] ^= 1 << bit
        _rehashed(folder, arrays | {"listed.kept": kept})
        assert not _confirmed(folder), "a circuit that is not minimal, or not faithful"
    for i in range(0, len(arrays["refuted.kept"]), 3):
        _rehashed(folder, arrays | {name: arrays[name][:i] for name in ("refuted.kept", "refuted.witness")})
        _stated(folder, level="none", lower=0)
        assert not _confirmed(folder), "with fewer refutations other circuits may be minimal"


def test_a_list_is_complete_as_brute_force_says() -> None:
    rng = np.random.default_rng(1)
    for _ in range(300):
        n = int(rng.integers(1, 7))
        clauses = [int(rng.integers(1, 1 << n)) for _ in range(int(rng.integers(0, 6)))]
        met = [s for s in range(1 << n) if all(s & clause for clause in clauses)]
        minimal = [s for s in met if not any(t & ~s == 0 for t in met if t != s)]
        assert covered(clauses, minimal)
        for some in (minimal[1:], [s | int(rng.integers(0, 1 << n)) for s in minimal]):
            assert covered(clauses, some) == all(any(t & ~s == 0 for t in some) for s in met), (clauses, some)


def test_a_cover_is_bounded_as_brute_force_says() -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        n = int(rng.integers(1, 9))
        clauses = [int(rng.integers(0 if rng.random() < 0.05 else 1, 1 << n)) for _ in range(int(rng.integers(0, 9)))]
        costs = [Fraction(int(rng.integers(1, 5)), int(rng.integers(1, 4))) for _ in range(n)]
        met = [s for s in range(1 << n) if all(s & clause for clause in clauses)]
        least = min((sum((costs[i] for i in range(n) if s >> i & 1), Fraction(0)) for s in met), default=None)
        for limit in {Fraction(0), Fraction(3, 2), Fraction(4), least or Fraction(0), (least or Fraction(0)) + Fraction(1, 7)}:
            assert dearer(clauses, costs, limit) == (least is None or least >= limit), (clauses, costs, limit)
