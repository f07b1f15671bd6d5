"""Triton's kernels over feature maps; `triton_calls` launches them.

Maps are images × pixels × channels, contiguous, float32 or bfloat16; sums are float32. A program
works on tiles of `rows` pixels × `columns` channels. Pixels are counted over all images.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import triton
import triton.language as tl

_compiled: Callable[..., Any] = triton.jit


@_compiled
def _activated(value: Any, activation: tl.constexpr) -> Any:
    # In this order, NaN stays NaN.
    if activation == "ReLU":
        value = tl.where(value < 0, 0.0, value)
    if activation == "ReLU6":
        value = tl.where(value < 0, 0.0, tl.where(value > 6, 6.0, value))
    if activation == "SiLU":
        value = value * tl.sigmoid(value)
    if activation == "Hardswish":
        gate = tl.where(value < -3, 0.0, tl.where(value > 3, 1.0, value / 6 + 0.5))
        value = value * gate
    return value


@_compiled
def _slope(value: Any, activation: tl.constexpr) -> Any:
    """The derivative of `_activated`."""
    slope = tl.full(value.shape, 1.0, tl.float32)
    if activation == "ReLU":
        slope = tl.where(value > 0, slope, 0.0)
    if activation == "ReLU6":
        slope = tl.where((value > 0) & (value < 6), slope, 0.0)
    if activation == "SiLU":
        gate = tl.sigmoid(value)
        slope = gate * (1 + value * (1 - gate))
    if activation == "Hardswish":
        slope = tl.where(value < -3, 0.0, tl.where(value > 3, slope, value / 3 + 0.5))
    return slope


@_compiled
def _tile(start: Any, pixels: Any, channel: Any, channels: Any, rows: tl.constexpr) -> Any:
    """Where the values of `rows` pixels from `start` are, and which of them there are."""
    pixel = start + tl.arange(0, rows)
    at = pixel.to(tl.int64)[:, None] * channels + channel[None, :]
    return at, (pixel < pixels)[:, None] & (channel < channels)[None, :]


@_compiled
def normalise(
    x_at: Any,
    weight_at: Any,
    bias_at: Any,
    running_mean_at: Any,
    running_variance_at: Any,
    mean_at: Any,
    inverse_at: Any,
    out_at: Any,
    pixels: Any,
    channels: Any,
    eps: Any,
    momentum: Any,
    activation: tl.constexpr,
    rows: tl.constexpr,
    columns: tl.constexpr,
) -> None:
    """Batch norm of x in training, and the activation; also updates the running statistics.

    A program has all pixels of its channels. Values are taken relative to the first pixel, so that
    a large mean costs no digits. `inverse` is 1 / the deviation.
    """
    channel = tl.program_id(0) * columns + tl.arange(0, columns)
    inside = channel < channels
    first = tl.load(x_at + channel, mask=inside, other=0).to(tl.float32)
    sums = tl.zeros([columns], tl.float32)
    squares = tl.zeros([columns], tl.float32)
    for start in range(0, pixels, rows):
        at, there = _tile(start, pixels, channel, channels, rows)
        x = tl.load(x_at + at, mask=there, other=0).to(tl.float32)
        value = tl.where(there, x - first[None, :], 0.0)
        sums += tl.sum(value, 0)
        squares += tl.sum(value * value, 0)
    distance = sums / pixels
    mean = first + distance
    variance = squares / pixels - distance * distance
    inverse = 1 / tl.sqrt(variance + eps)
    tl.store(mean_at + channel, mean, mask=inside)
    tl.store(inverse_at + channel, inverse, mask=inside)
    unbiased = variance * (pixels / (pixels - 1))
    before = tl.load(running_mean_at + channel, mask=inside)
    tl.store(running_mean_at + channel, before * (1 - momentum) + mean * momentum, mask=inside)
    before = tl.load(running_variance_at + channel, mask=inside)
    tl.store(
        running_variance_at + channel, before * (1 - momentum) + unbiased * momentum, mask=inside
    )

    scale = tl.load(weight_at + channel, mask=inside, other=0) * inverse
    bias = tl.load(bias_at + channel, mask=inside, other=0)
    for start in range(0, pixels, rows):
        at, there = _tile(start, pixels, channel, channels, rows)
        x = tl.load(x_at + at, mask=there, other=0).to(tl.float32)
        value = (x - mean[None, :]) * scale[None, :] + bias[None, :]
        tl.store(out_at + at, _activated(value, activation), mask=there)


@_compiled
def differentiate_norm(
    gradient_at: Any,
    x_at: Any,
    mean_at: Any,
    inverse_at: Any,
    weight_at: Any,
    bias_at: Any,
    of_x_at: Any,
    of_weight_at: Any,
    of_bias_at: Any,
    pixels: Any,
    channels: Any,
    activation: tl.constexpr,
    rows: tl.constexpr,
    columns: tl.constexpr,
) -> None:
    """The gradients of `normalise` with respect to x, weight and bias.

    The norm is computed again, instead of being kept. Source of the formula: Ioffe and Szegedy
    2015, section 3.
    """
    channel = tl.program_id(0) * columns + tl.arange(0, columns)
    inside = channel < channels
    mean = tl.load(mean_at + channel, mask=inside, other=0)
    inverse = tl.load(inverse_at + channel, mask=inside, other=0)
    weight = tl.load(weight_at + channel, mask=inside, other=0)
    bias = tl.load(bias_at + channel, mask=inside, other=0)
    of_bias = tl.zeros([columns], tl.float32)
    of_weight = tl.zeros([columns], tl.float32)
    for start in range(0, pixels, rows):
        at, there = _tile(start, pixels, channel, channels, rows)
        x = tl.load(x_at + at, mask=there, other=0).to(tl.float32)
        normed = (x - mean[None, :]) * inverse[None, :]
        passed = tl.load(gradient_at + at, mask=there, other=0).to(tl.float32)
        passed *= _slope(normed * weight[None, :] + bias[None, :], activation)
        of_bias += tl.sum(passed, 0)
        of_weight += tl.sum(passed * normed, 0)
    tl.store(of_bias_at + channel, of_bias, mask=inside)
    tl.store(of_weight_at + channel, of_weight, mask=inside)

    # dx = scale · (passed − its mean − x̂ · the mean of x̂ · passed)
    for start in range(0, pixels, rows):
        at, there = _tile(start, pixels, channel, channels, rows)
        x = tl.load(x_at + at, mask=there, other=0).to(tl.float32)
        normed = (x - mean[None, :]) * inverse[None, :]
        passed = tl.load(gradient_at + at, mask=there, other=0).to(tl.float32)
        passed *= _slope(normed * weight[None, :] + bias[None, :], activation)
        means = (of_bias[None, :] + normed * of_weight[None, :]) / pixels
        tl.store(of_x_at + at, (weight * inverse)[None, :] * (passed - means), mask=there)


@_compiled
def convolve(
    x_at: Any,
    weight_at: Any,
    out_at: Any,
    images: Any,
    in_height: Any,
    in_width: Any,
    out_height: Any,
    out_width: Any,
    channels: Any,
    padding: Any,
    kernel: tl.constexpr,
    stride: tl.constexpr,
    transposed: tl.constexpr,
    rows: tl.constexpr,
    columns: tl.constexpr,
) -> None:
    """A depthwise convolution of x with weights of channels × kernel × kernel.

    Transposed, x is the gradient of a convolution's output, and out that of its input.
    """
    pixel = tl.program_id(0) * rows + tl.arange(0, rows)
    channel = tl.program_id(1) * columns + tl.arange(0, columns)
    inside = channel < channels
    image = pixel // (out_height * out_width)
    row = pixel // out_width % out_height
    column = pixel % out_width
    total = tl.zeros([rows, columns], tl.float32)
    for i in tl.static_range(kernel):
        for j in tl.static_range(kernel):
            there = image < images
            if transposed:
                down, right = row + padding - i, column + padding - j
                there &= (down % stride == 0) & (right % stride == 0)
                down, right = down // stride, right // stride
            else:
                down, right = row * stride + i - padding, column * stride + j - padding
            there &= (down >= 0) & (down < in_height) & (right >= 0) & (right < in_width)
            read = ((image * in_height + down) * in_width + right).to(tl.int64)
            at = read[:, None] * channels + channel[None, :]
            x = tl.load(x_at + at, mask=there[:, None] & inside[None, :], other=0)
            tap = (channel * kernel + i) * kernel + j
            weight = tl.load(weight_at + tap, mask=inside, other=0)
            total += x.to(tl.float32) * weight.to(tl.float32)[None, :]
    at = pixel.to(tl.int64)[:, None] * channels + channel[None, :]
    tl.store(out_at + at, total, mask=(image < images)[:, None] & inside[None, :])


@_compiled
def differentiate_weight(
    gradient_at: Any,
    x_at: Any,
    parts_at: Any,
    pixels: Any,
    in_height: Any,
    in_width: Any,
    out_height: Any,
    out_width: Any,
    channels: Any,
    padding: Any,
    part_pixels: Any,
    kernel: tl.constexpr,
    stride: tl.constexpr,
    rows: tl.constexpr,
    columns: tl.constexpr,
) -> None:
    """The gradient of `convolve`'s weights, in parts × channels × kernel × kernel, to be summed.

    A program has one weight of its channels, and `part_pixels` of the output's pixels.
    """
    channel = tl.program_id(0) * columns + tl.arange(0, columns)
    tap, part = tl.program_id(1), tl.program_id(2)
    inside = channel < channels
    end = tl.minimum(pixels, (part + 1) * part_pixels)
    total = tl.zeros([columns], tl.float32)
    for start in range(part * part_pixels, end, rows):
        at, there = _tile(start, end, channel, channels, rows)
        gradient = tl.load(gradient_at + at, mask=there, other=0).to(tl.float32)
        pixel = start + tl.arange(0, rows)
        image = pixel // (out_height * out_width)
        down = pixel // out_width % out_height * stride + tap // kernel - padding
        right = pixel % out_width * stride + tap % kernel - padding
        reads = (down >= 0) & (down < in_height) & (right >= 0) & (right < in_width)
        read = ((image * in_height + down) * in_width + right).to(tl.int64)
        at = read[:, None] * channels + channel[None, :]
        x = tl.load(x_at + at, mask=there & reads[:, None], other=0).to(tl.float32)
        total += tl.sum(x * gradient, 0)
    at = ((part * channels + channel) * kernel + tap // kernel) * kernel + tap % kernel
    tl.store(parts_at + at, total, mask=inside)
