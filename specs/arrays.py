"""Numbers that a record states or names in a file, as float64 arrays in the model's shape. Nothing is ever unpickled."""

from __future__ import annotations

import math
import zipfile
import zlib
from typing import IO, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from specs.document import jsonpath
from specs.errors import InputError, nearest
from specs.patching import Inputs
from specs.record import ArrayFile, Nested
from specs.region import Layout, Scale

__all__ = ["MAX_BYTES", "inputs", "resolve", "resolve_each", "resolve_rows", "to_input", "to_shape"]

MAX_BYTES = 2 * 2**30

Floats: TypeAlias = NDArray[np.float64]
Shape: TypeAlias = tuple[int, ...]


def resolve(reference: Nested | ArrayFile, *, file: str, where: str) -> Floats:
    """The numbers of a reference: what is inline, or what `index` picks (for several: stacked along a new first axis).

    `file` and `where` say where the reference stands. Cost: reads the whole array that the reference names. Raises: InputError:
    the file cannot be read or holds no such array or entry, or a number is not finite.
    """
    if not isinstance(reference, ArrayFile):
        return np.asarray(reference, dtype=np.float64)
    array, name = _read(reference.file, reference.array, file, where)
    if reference.index is not None:
        several = isinstance(reference.index, tuple)
        indices = reference.index if isinstance(reference.index, tuple) else (reference.index,)
        array = _picked(array, name, indices, file, f"{where}.index", several)
        array = array if several else array[0]
    return _finite(array, name, file, where)


def resolve_each(reference: Nested | ArrayFile, *, file: str, where: str) -> list[Floats]:
    """One array for each claim: those that a list of `index` picks, else the array itself. Raises: as `resolve`."""
    array = resolve(reference, file=file, where=where)
    return list(array) if _several(reference) else [array]


def resolve_rows(reference: Nested | ArrayFile, *, file: str, where: str) -> list[Floats]:
    """The entries along the first axis (the points of a hull); one entry where `index` is one number. Raises: as `resolve`."""
    array = resolve(reference, file=file, where=where)
    if isinstance(reference, ArrayFile) and isinstance(reference.index, int):
        return [array]
    if array.ndim == 0:
        raise InputError(file, where, "a single number", "a list of points", "write [...] around it")
    return [np.asarray(row) for row in array]


def inputs(data: Inputs, shape: Shape, *, file: str, where: str) -> Floats:
    """Inputs of the model that stand in a file. Shape: `(count, *shape)`. Raises: as `resolve` and `to_input`."""
    array, name = _read(data.file, data.array, file, where)
    if array.ndim == 0 or not len(array):
        raise InputError(file, where, f"{name} of shape {array.shape} holds no inputs", f"shape (count, {_plain(shape)})")
    if data.indices is not None:
        array = _picked(array, name, data.indices, file, f"{where}.indices", True)
    rows = _finite(array, name, file, where)
    return np.stack([to_input(row, shape, scale=data.scale, layout=data.layout, file=file, where=where) for row in rows])


def to_input(
    array: Floats, shape: Shape, *, scale: Scale | None = None, layout: Layout | None = None, file: str, where: str
) -> Floats:
    """An array as the model's input: scaled, turned as `layout` says, in `shape` (the model's, without its batch dimension).

    A single number fills the shape. Lists in `scale` run along the channel axis: the first of three axes or the last, whichever
    has their length; where both have, `layout` decides. Raises: InputError: no such axis, or as `to_shape`.
    """
    if array.ndim == 0:
        array = np.full(shape, array)
    if scale is not None:
        mean, std = (_along_channels(array, values, layout, file, where) for values in (scale.mean, scale.std))
        array = (array / scale.divide - mean) / std
    return to_shape(array, shape, layout=layout, file=file, where=where)


def to_shape(array: Floats, shape: Shape, *, layout: Layout | None = None, file: str, where: str) -> Floats:
    """The array in `shape`: as it is, with other axes of length 1, or from or to a flat list; a single number fills the shape.

    With `layout` (what the array holds; three axes) channel-last is turned to channel-first, or the other way, where `shape` is
    arranged that way; a flat `shape` is taken to be channel-first. Raises: InputError: it does not fit; both shapes are named.
    """
    if array.ndim == 0:
        return np.full(shape, array)
    if layout is not None:
        array = _turned(array, shape, layout, file, where)
    ours, theirs = _significant(array.shape), _significant(shape)
    if ours == theirs or (array.size == math.prod(shape) and min(len(ours), len(theirs)) <= 1):
        return array.reshape(shape)
    remedy = ""
    if layout is None and len(ours) == len(theirs) == 3:
        for held, axes in _TURNS.items():
            if tuple(ours[axis] for axis in axes) == theirs:
                said, wanted = ("last", "first") if held == "hwc" else ("first", "last")
                remedy = f"the array has its channels {said}, the model takes them {wanted}: add `layout: {held}`"
    elif array.size and array.size % math.prod(shape) == 0 and array.shape[0] * math.prod(shape) == array.size:
        remedy = f"it holds {array.shape[0]} such arrays: pick by `index`"
    raise InputError(file, where, f"an array of shape {_said(array.shape)}", f"shape {_said(shape)}", remedy)


_TURNS: dict[Layout, tuple[int, int, int]] = {"hwc": (2, 0, 1), "chw": (1, 2, 0)}
"""From what the array holds to the other arrangement."""


def _turned(array: Floats, shape: Shape, layout: Layout, file: str, where: str) -> Floats:
    while array.ndim > 3 and array.shape[0] == 1:
        array = array[0]
    if array.ndim != 3:
        raise InputError(file, where, f"an array of shape {_said(array.shape)}", f"three axes, as `layout: {layout}` says")
    turned = array.transpose(_TURNS[layout])
    theirs = _significant(shape)
    if len(theirs) <= 1:
        return turned if layout == "hwc" else array
    as_is, other = (_significant(candidate.shape) == theirs for candidate in (array, turned))
    if as_is and other and len(theirs) == 3:
        raise InputError(file, where, f"all axes have length {theirs[0]}: `layout` cannot tell", "the model's arrangement",
                         "turn the array in the file and delete `layout`")  # fmt: skip
    return turned if other and not as_is else array


def _along_channels(array: Floats, values: tuple[float, ...], layout: Layout | None, file: str, where: str) -> Floats:
    """Values shaped to broadcast along the array's channel axis."""
    if len(values) == 1:
        return np.asarray(values[0])
    # Beyond three axes the first ones count inputs, as in NCHW and NHWC.
    ahead = max(array.ndim - 3, 0)
    ends = {"chw": ahead, "hwc": array.ndim - 1}
    fitting = {axis for held, axis in ends.items() if array.shape[axis] == len(values) and layout in (None, held)}
    said = f"scale has {len(values)} values, one a channel, for an array of shape {_said(array.shape)}"
    if not fitting:
        raise InputError(file, where, said, "one value for each channel, on the array's first or last axis")
    if len(fitting) > 1:
        raise InputError(file, where, said, "the axis that counts channels", "add `layout: chw` or `layout: hwc`")
    return np.asarray(values).reshape([-1 if axis in fitting else 1 for axis in range(array.ndim)])


def _significant(shape: Shape) -> Shape:
    return tuple(length for length in shape if length != 1)


def _plain(shape: Shape) -> str:
    return ", ".join(str(length) for length in shape)


def _said(shape: Shape) -> str:
    return f"({_plain(shape)})"


def _several(reference: Nested | ArrayFile) -> bool:
    return isinstance(reference, ArrayFile) and isinstance(reference.index, tuple)


def _picked(array: NDArray[Any], name: str, indices: tuple[int, ...], file: str, where: str, several: bool) -> NDArray[Any]:
    if array.ndim == 0:
        raise InputError(file, where, f"{name} is a single number", "an array", "leave `index` out")
    for place, index in enumerate(indices):
        if index >= len(array):
            spot = f"{where}[{place}]" if several else where
            raise InputError(file, spot, f"index {index}", f"{name} has {len(array)} entries", f"use 0..{len(array) - 1}")
    return array[list(indices)]


def _finite(array: NDArray[Any], name: str, file: str, where: str) -> Floats:
    if array.size * 8 > MAX_BYTES:
        raise InputError(file, where, f"{name} has {array.size} numbers", f"at most {MAX_BYTES // 8}", "pick some by `index`")
    with np.errstate(all="ignore"):  # what does not fit is infinite, and said below
        found = array.astype(np.float64)
    if not (good := np.isfinite(found)).all():
        place = tuple(int(i) for i in np.argwhere(~good)[0])
        raise InputError(file, where, f"{name} has {found[place]} at {jsonpath(place)[1:] or '[]'}", "finite numbers")
    return found


def _read(path: str, name: str | None, file: str, where: str) -> tuple[NDArray[Any], str]:
    """One array of a file, in its own type, and what to call it in messages."""
    where_file = f"{where}.file"
    try:
        with open(path, "rb") as stream:
            magic = stream.read(6)
            stream.seek(0)
            if magic.startswith(b"\x93NUMPY"):
                if name is not None:
                    raise InputError(file, f"{where}.array", f"{name!r}, and {path} is an .npy", "one array without a name",
                                     "delete `array`")  # fmt: skip
                return _array(stream, path, file, where_file), path
            if magic.startswith(b"PK"):
                return _member(stream, path, name, file, where)
    except OSError as error:
        said = (error.strerror or str(error)).lower()
        raise InputError(file, where_file, f"{path} cannot be read ({said})", "an .npz or .npy", "check the path") from None
    except _BROKEN as error:
        raise InputError(file, where_file, f"{path} is damaged ({error})", "an .npz or .npy file") from None
    raise InputError(file, where_file, f"{path} is neither .npz nor .npy", "an .npz or .npy file", "save it with numpy.savez")


_BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError)


def _member(stream: IO[bytes], path: str, name: str | None, file: str, where: str) -> tuple[NDArray[Any], str]:
    with zipfile.ZipFile(stream) as archive:
        names = [entry.removesuffix(".npy") for entry in archive.namelist() if entry.endswith(".npy")]
        if not names:
            raise InputError(file, f"{where}.file", f"{path} holds no arrays", "an .npz file", "save it with numpy.savez")
        if name is None:
            if len(names) > 1:
                said = f"{path} holds {len(names)} arrays, and `array` does not say which"
                raise InputError(file, where, said, "its name under `array`", nearest("", names))
            name = names[0]
        if name not in names:
            raise InputError(file, f"{where}.array", f"{path} has no array {name!r}", "", nearest(name, names))
        with archive.open(f"{name}.npy") as member:
            return _array(member, f"array {name!r} of {path}", file, f"{where}.array"), f"array {name!r} of {path}"


def _array(stream: IO[bytes], name: str, file: str, where: str) -> NDArray[Any]:
    """Read one `.npy` stream, its header first: type and size are checked before anything of that size is made."""
    form = np.lib.format
    version = form.read_magic(stream)
    read = form.read_array_header_1_0 if version == (1, 0) else form.read_array_header_2_0
    try:
        shape, fortran, dtype = read(stream)
    except Exception as error:  # NumPy parses the header as Python text, and lets that parser's own errors through
        raise ValueError(f"its header cannot be read: {error}") from None
    if dtype.kind not in "biuf":
        raise InputError(file, where, f"{name} holds {dtype} values", "numbers", "save it as a float or integer array")
    size = math.prod(shape) * dtype.itemsize
    if size > MAX_BYTES or min(shape, default=0) < 0:
        raise InputError(file, where, f"{name} states a size of {size} bytes", f"at most {MAX_BYTES}", "save fewer entries")
    content = stream.read(size)
    if len(content) < size:
        raise ValueError(f"{len(content)} bytes where its header states {size}")
    array = np.frombuffer(content, dtype=dtype)
    return array.reshape(shape, order="F" if fortran else "C")
