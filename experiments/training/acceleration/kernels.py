"""Loops over feature maps, compiled by numba; `kernel_calls` calls them.

Maps are images × pixels × channels, contiguous float32. They are read in rows of several pixels, so
that the loop over a row is long enough to vectorise with any number of channels. Sums are float32
over a few rows, then float64. NaN stays NaN, so that divergence is noticed.

Kernels take addresses: a step calls some hundred of them, and numba takes 0.1 ms to unpack ten
arrays (measured).
"""

from __future__ import annotations

from collections.abc import Callable
from ctypes import c_void_p as Address
from typing import Any

import numpy as np
from numba import carray, cfunc, njit, types  # type: ignore[attr-defined]
from numpy.typing import NDArray

_Floats = NDArray[np.float32]

#: Columns of a row, at least: unrolled vectors of 8 or 16 then leave a small remainder.
_COLUMNS = 256
#: Rows whose sum float32 holds accurately enough (assumed: their squares differ by few digits).
_PIECE = 64
#: Sums may be reordered, without which no loop is vectorised; NaN and infinity are kept.
_MATHS = {"reassoc", "contract", "nsz", "arcp"}
_ZERO = np.float32(0)
_compiled: Callable[..., Any] = njit(fastmath=_MATHS, cache=True)


def _kernel(addresses: int, numbers: int) -> Callable[..., Any]:
    """Compiles a function of `addresses`, then images, pixels per image and channels, then
    `numbers`."""
    arguments = (*[types.voidptr] * addresses, *[types.intp] * 3, *[types.float64] * numbers)
    compiled: Callable[..., Any] = cfunc(types.void(*arguments), fastmath=_MATHS, cache=True)
    return compiled


@_compiled
def _columns(pixels: int, channels: int) -> int:
    """The length of a row: enough pixels to make it long, so that all rows are equal."""
    columns = channels
    while columns < _COLUMNS and pixels * channels % (2 * columns) == 0:
        columns *= 2
    return columns


@_compiled
def _rows(at: Address, pixels: int, channels: int) -> NDArray[np.float32]:
    columns = _columns(pixels, channels)
    return carray(at, (pixels * channels // columns, columns), np.float32)


@_compiled
def _values(at: Address, channels: int) -> NDArray[np.float32]:
    return carray(at, channels, np.float32)


@_compiled
def _repeated(values: _Floats, columns: int) -> _Floats:
    """Repeats values of channels for all columns."""
    repeated = np.empty(columns, np.float32)
    for j in range(columns):
        repeated[j] = values[j % len(values)]
    return repeated


@_compiled
def _gather(by_column: _Floats, by_channel: Any) -> None:
    """Adds values of columns to those of their channels."""
    channels = len(by_channel)
    for first in range(0, len(by_column), channels):
        for c in range(channels):
            by_channel[c] += by_column[first + c]


@_compiled
def _moments(x: _Floats, mean: _Floats, variance: _Floats) -> None:
    """Writes the mean and the (biased) variance of every channel.

    Values are taken relative to the first pixel, so that a large mean costs no digits.
    """
    rows, columns = x.shape
    channels = len(mean)
    sums, squares = np.zeros(channels), np.zeros(channels)
    of_piece, of_squares = np.empty(columns, np.float32), np.empty(columns, np.float32)
    first = _repeated(x[0, :channels], columns)
    for start in range(0, rows, _PIECE):
        of_piece[:] = 0
        of_squares[:] = 0
        for i in range(start, min(start + _PIECE, rows)):
            for j in range(columns):
                value = x[i, j] - first[j]
                of_piece[j] += value
                of_squares[j] += value * value
        _gather(of_piece, sums)
        _gather(of_squares, squares)
    pixels = rows * columns // channels
    for c in range(channels):
        distance = sums[c] / pixels
        mean[c] = first[c] + distance
        variance[c] = squares[c] / pixels - distance * distance


@_compiled
def _clamped_line(
    x: _Floats, scale: _Floats, offset: _Floats, low: np.float32, high: np.float32, out: _Floats
) -> None:
    """out = x · scale + offset, clamped."""
    rows, columns = x.shape
    scale, offset = _repeated(scale, columns), _repeated(offset, columns)
    for i in range(rows):
        for j in range(columns):
            value = x[i, j] * scale[j] + offset[j]
            # In this order, NaN stays NaN.
            out[i, j] = low if value < low else (high if value > high else value)


@_kernel(addresses=8, numbers=4)
def normalise(
    x_at: Address,
    weight_at: Address,
    bias_at: Address,
    running_mean_at: Address,
    running_variance_at: Address,
    mean_at: Address,
    deviation_at: Address,
    out_at: Address,
    images: int,
    pixels_of_image: int,
    channels: int,
    eps: float,
    momentum: float,
    low: float,
    high: float,
) -> None:
    """Batch norm of x in training, clamped; also updates the running statistics."""
    pixels = images * pixels_of_image
    x, out = _rows(x_at, pixels, channels), _rows(out_at, pixels, channels)
    weight, bias = _values(weight_at, channels), _values(bias_at, channels)
    mean, deviation = _values(mean_at, channels), _values(deviation_at, channels)
    running_mean = _values(running_mean_at, channels)
    running_variance = _values(running_variance_at, channels)
    variance = np.empty(channels, np.float32)
    _moments(x, mean, variance)
    scale, offset = np.empty(channels, np.float32), np.empty(channels, np.float32)
    for c in range(channels):
        unbiased = variance[c] * pixels / (pixels - 1)
        running_mean[c] += momentum * (mean[c] - running_mean[c])
        running_variance[c] += momentum * (unbiased - running_variance[c])
        deviation[c] = np.sqrt(variance[c] + eps)
        scale[c] = weight[c] / deviation[c]
        offset[c] = bias[c] - mean[c] * scale[c]
    _clamped_line(x, scale, offset, np.float32(low), np.float32(high), out)


@_kernel(addresses=4, numbers=2)
def clamped_line(
    x_at: Address,
    scale_at: Address,
    offset_at: Address,
    out_at: Address,
    images: int,
    pixels: int,
    channels: int,
    low: float,
    high: float,
) -> None:
    """out = x · scale + offset for each channel, clamped."""
    x = _rows(x_at, images * pixels, channels)
    out = _rows(out_at, images * pixels, channels)
    scale, offset = _values(scale_at, channels), _values(offset_at, channels)
    _clamped_line(x, scale, offset, np.float32(low), np.float32(high), out)


@_kernel(addresses=9, numbers=2)
def differentiate_norm(
    gradient_at: Address,
    x_at: Address,
    mean_at: Address,
    deviation_at: Address,
    weight_at: Address,
    bias_at: Address,
    of_x_at: Address,
    of_weight_at: Address,
    of_bias_at: Address,
    images: int,
    pixels_of_image: int,
    channels: int,
    low: float,
    high: float,
) -> None:
    """The gradients of `normalise` with respect to x, weight and bias.

    What was clamped is computed again, which costs less than reading it. Source of the formula:
    Ioffe and Szegedy 2015, section 3.
    """
    pixels = images * pixels_of_image
    gradient = _rows(gradient_at, pixels, channels)
    x, of_x = _rows(x_at, pixels, channels), _rows(of_x_at, pixels, channels)
    of_weight, of_bias = _values(of_weight_at, channels), _values(of_bias_at, channels)
    rows, columns = x.shape
    least, most = np.float32(low), np.float32(high)
    mean = _repeated(_values(mean_at, channels), columns)
    deviation = _repeated(_values(deviation_at, channels), columns)
    scale = _repeated(_values(weight_at, channels), columns) / deviation
    offset = _repeated(_values(bias_at, channels), columns) - mean * scale

    sums, products = np.zeros(channels), np.zeros(channels)
    of_piece, of_products = np.empty(columns, np.float32), np.empty(columns, np.float32)
    for start in range(0, rows, _PIECE):
        of_piece[:] = 0
        of_products[:] = 0
        for i in range(start, min(start + _PIECE, rows)):
            for j in range(columns):
                value = x[i, j] * scale[j] + offset[j]
                passed = gradient[i, j] if least < value < most else _ZERO
                of_piece[j] += passed
                of_products[j] += passed * (x[i, j] - mean[j])
        _gather(of_piece, sums)
        _gather(of_products, products)
    for c in range(channels):
        of_bias[c] = sums[c]
        of_weight[c] = products[c] / deviation[c]

    # dx = scale · (passed − its mean − x̂ · the mean of x̂ · passed)
    slope = scale * _repeated(of_weight, columns) / (deviation * np.float32(pixels))
    constant = scale * _repeated(of_bias, columns) / np.float32(pixels) - slope * mean
    for i in range(rows):
        for j in range(columns):
            value = x[i, j] * scale[j] + offset[j]
            passed = gradient[i, j] if least < value < most else _ZERO
            of_x[i, j] = scale[j] * passed - slope[j] * x[i, j] - constant[j]


@_kernel(addresses=5, numbers=0)
def differentiate_gates(
    gradient_at: Address,
    x_at: Address,
    gates_at: Address,
    of_x_at: Address,
    of_gates_at: Address,
    images: int,
    pixels: int,
    channels: int,
) -> None:
    """The gradients of x · gates, with gates of images × channels."""
    columns = _columns(pixels, channels)
    shape = (images, pixels * channels // columns, columns)
    gradient, x = carray(gradient_at, shape, np.float32), carray(x_at, shape, np.float32)
    of_x = carray(of_x_at, shape, np.float32)
    gates = carray(gates_at, (images, channels), np.float32)
    of_gates = carray(of_gates_at, (images, channels), np.float32)
    sums = np.empty(columns, np.float32)
    for n in range(images):
        gate = _repeated(gates[n], columns)
        sums[:] = 0
        for i in range(shape[1]):
            for j in range(columns):
                of_x[n, i, j] = gradient[n, i, j] * gate[j]
                sums[j] += gradient[n, i, j] * x[n, i, j]
        of_gates[n] = 0
        _gather(sums, of_gates[n])
