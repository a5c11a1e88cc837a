"""Inline numbers and arrays in files, as the model takes them."""

from __future__ import annotations

import io
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from specs import arrays
from specs.arrays import inputs, resolve, resolve_each, resolve_rows, to_input, to_shape
from specs.errors import InputError
from specs.patching import Inputs
from specs.record import ArrayFile
from specs.region import Linf, Scale

AT: dict[str, Any] = {"file": "spec.yaml", "where": "$.input.center"}
IMAGES = np.arange(4 * 2 * 3 * 3, dtype=np.uint8).reshape(4, 2, 3, 3)


@pytest.fixture
def data(tmp_path: Path) -> str:
    path = tmp_path / "data.npz"
    np.savez(path, images=IMAGES, labels=np.array([1, 2]), broken=np.array([[0.0, np.nan]]), names=np.array(["x"]))
    return str(path)


def reference(data: str, array: str | None = "images", index: int | tuple[int, ...] | None = None) -> ArrayFile:
    return ArrayFile(file=data, array=array, index=index)


def test_inline_numbers() -> None:
    inline = Linf(center=np.array([[1, 2], [3, 4]]), epsilon=0.5)  # pyright: ignore[reportArgumentType]
    assert not isinstance(inline.center, ArrayFile)
    assert resolve(inline.center, **AT).tolist() == [[1.0, 2.0], [3.0, 4.0]]
    assert [row.tolist() for row in resolve_rows(inline.center, **AT)] == [[1.0, 2.0], [3.0, 4.0]]
    assert resolve(0.5, **AT).shape == ()


def test_arrays_in_files(data: str, tmp_path: Path) -> None:
    assert resolve(reference(data), **AT).shape == IMAGES.shape
    one, several = reference(data, index=2), reference(data, index=(3, 0))
    assert (resolve(one, **AT) == IMAGES[2]).all() and resolve(one, **AT).dtype == np.float64
    assert (resolve(several, **AT) == IMAGES[[3, 0]]).all()
    assert [len(resolve_each(r, **AT)) for r in (reference(data), one, several)] == [1, 1, 2]
    assert [len(resolve_rows(r, **AT)) for r in (reference(data), one, several)] == [4, 1, 2]
    np.save(tmp_path / "a.npy", np.asfortranarray(IMAGES.astype(">f4")))
    assert (resolve(reference(str(tmp_path / "a.npy"), None), **AT) == IMAGES).all()
    np.savez_compressed(tmp_path / "b.npz", only=IMAGES)
    assert (resolve(reference(str(tmp_path / "b.npz"), None), **AT) == IMAGES).all()


@pytest.mark.parametrize(
    ("array", "index", "said"),
    [
        ("image", None, r"\$\.input\.center\.array: .* no array 'image'; use 'images'"),
        (None, None, r"\$\.input\.center: .* holds 4 arrays.*broken, images, labels, names"),
        ("images", 4, r"\$\.input\.center\.index: index 4; array 'images' .* has 4 entries; use 0\.\.3"),
        ("images", (0, 9), r"\$\.input\.center\.index\[1\]: index 9"),
        ("broken", None, r"\$\.input\.center: .* nan at \[0\]\[1\]; finite"),
        ("names", None, r"\$\.input\.center\.array: .*<U1.*; numbers"),
    ],
)
def test_bad_references(data: str, array: str | None, index: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        resolve(reference(data, array, index), **AT)


def bomb() -> bytes:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"shape": (10**6, 10**6), "fortran_order": False, "descr": "<f8"})
    return header.getvalue()


def packed(name: str, content: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr(name, content)
    return stream.getvalue()


def saved(array: Any, **how: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, **how)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "no such file"),
        (b"", "neither .npz nor .npy"),
        (b"\x80\x04pickle", "neither .npz nor .npy"),
        (b"PK\x03\x04garbage", "damaged"),
        (packed("readme.txt", b""), "holds no arrays"),
        (packed("a.npy", b"text"), "damaged"),
        (packed("a.npy", bomb()), "states a size of 8000000000000 bytes"),
        (bomb(), "states a size"),
        (saved(np.zeros(9))[:-8], "damaged"),
        (saved(np.array([{}], dtype=object), allow_pickle=True), "holds object values"),
        (packed("a.npy", saved(np.array([{}], dtype=object), allow_pickle=True)), "holds object values"),
        (saved(np.zeros(2, complex)), "complex128"),
    ],
)
def test_bad_files(tmp_path: Path, content: bytes | None, said: str) -> None:
    path = tmp_path / "x.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=said) as caught:
        resolve(reference(str(path), None), **AT)
    assert str(caught.value).startswith("spec.yaml $.input.center")


def test_a_selection_is_bounded_too(data: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays, "MAX_BYTES", 300)
    with pytest.raises(InputError, match="has 72 numbers"):
        resolve(reference(data), **AT)
    assert resolve(reference(data, index=0), **AT).shape == (2, 3, 3)


@pytest.mark.parametrize(
    ("held", "wanted"),
    [
        ((28, 28), (1, 28, 28, 1)),
        ((28, 28), (784, 1)),
        ((784,), (1, 28, 28)),
        ((1, 5), (5,)),
        ((), (2, 3)),
        ((2, 1, 3), (2, 3)),
    ],
)
def test_shapes_that_fit(held: tuple[int, ...], wanted: tuple[int, ...]) -> None:
    array = np.arange(float(np.prod(held, dtype=int))).reshape(held)
    made = to_shape(array, wanted, **AT)
    assert made.shape == wanted
    assert held == () or (made.ravel() == array.ravel()).all()


@pytest.mark.parametrize(
    ("held", "wanted", "said"),
    [
        ((32, 32, 3), (3, 32, 32), "shape (32, 32, 3); shape (3, 32, 32); the array has its channels last"),
        ((3, 32, 32), (32, 32, 3), "add `layout: chw`"),
        ((7,), (5,), "an array of shape (7); shape (5)"),
        ((2, 3), (3, 2), "an array of shape (2, 3); shape (3, 2)"),
        ((10, 28, 28), (1, 28, 28), "it holds 10 such arrays: pick by `index`"),
        ((0, 3), (3,), "shape (0, 3)"),
    ],
)
def test_shapes_that_do_not(held: tuple[int, ...], wanted: tuple[int, ...], said: str) -> None:
    with pytest.raises(InputError, match=re.escape(said)):
        to_shape(np.zeros(held), wanted, **AT)


def test_layout_turns_where_the_model_is_arranged_the_other_way() -> None:
    chw = np.arange(24.0).reshape(2, 3, 4)
    hwc = chw.transpose(1, 2, 0)
    assert (to_shape(hwc, (2, 3, 4), layout="hwc", **AT) == chw).all()
    assert (to_shape(hwc, (3, 4, 2), layout="hwc", **AT) == hwc).all()
    assert (to_shape(chw, (3, 4, 2), layout="chw", **AT) == hwc).all()
    assert (to_shape(chw, (2, 3, 4), layout="chw", **AT) == chw).all()
    assert (to_shape(hwc[None], (24,), layout="hwc", **AT) == chw.ravel()).all()
    assert (to_shape(chw, (24, 1), layout="chw", **AT) == chw.ravel()[:, None]).all()
    with pytest.raises(InputError, match="three axes"):
        to_shape(np.zeros(24), (2, 3, 4), layout="hwc", **AT)
    with pytest.raises(InputError, match="cannot tell"):
        to_shape(np.zeros((3, 3, 3)), (3, 3, 3), layout="hwc", **AT)


def test_scale_runs_along_the_channels() -> None:
    scale = Scale(divide=2, mean=(1, 2), std=(1, 4))
    chw = np.full((2, 3, 4), 8.0)
    wanted = np.stack([np.full((3, 4), 3.0), np.full((3, 4), 0.5)])
    assert (to_input(chw, (2, 3, 4), scale=scale, **AT) == wanted).all()
    assert (to_input(chw[None], (2, 3, 4), scale=scale, **AT) == wanted).all()
    assert (to_input(chw.transpose(1, 2, 0), (2, 3, 4), scale=scale, layout="hwc", **AT) == wanted).all()
    assert (to_input(np.asarray(8.0), (2, 3, 4), scale=scale, **AT) == wanted).all()
    assert to_input(np.array([8.0, 8.0]), (2,), scale=scale, **AT).tolist() == [3.0, 0.5]
    assert (to_input(chw, (24,), scale=Scale(divide=4), **AT) == 2).all()
    with pytest.raises(InputError, match="add `layout: chw` or `layout: hwc`"):
        to_input(np.zeros((2, 3, 2)), (2, 3, 2), scale=scale, **AT)
    with pytest.raises(InputError, match=r"scale has 2 values.*on the array's first or last axis"):
        to_input(np.zeros(24), (2, 3, 4), scale=scale, **AT)


def test_inputs_to_average_over(data: str) -> None:
    at = {"file": "spec.yaml", "where": "$.patching.mean"}
    made = inputs(Inputs(file=data, array="images", indices=(1, 1, 3), scale=Scale(divide=2)), (18,), **at)
    assert (made == IMAGES[[1, 1, 3]].reshape(3, 18) / 2).all()
    assert inputs(Inputs(file=data, array="images"), (2, 3, 3), **at).shape == (4, 2, 3, 3)
    with pytest.raises(InputError, match=r"\$\.patching\.mean\.indices\[0\]: index 4"):
        inputs(Inputs(file=data, array="images", indices=(4,)), (18,), **at)
