"""What convolution and pooling share: images laid batch-last, and the strided windows over them.

Shapes are PyTorch's, [N, C, H, W], but these ops compute on (and return views of) memory laid [C, H, W, N]: then each
window's row is one long contiguous run, and strides carry the layout from op to op without a copy, as PyTorch's
`channels_last` does. Elementwise ops between them keep it.
"""

from __future__ import annotations

from typing import Any

from mulgil.errors import ShapeError

Pair = tuple[int, int]


def batch_last(x: Any, xp: Any, padding: tuple[Pair, Pair] = ((0, 0), (0, 0)), value: float = 0.0) -> Any:
    """x[N, C, H, W] as contiguous [C, H, W, N], with `value` in (before, after) rows and columns around it."""
    x = x.transpose(1, 2, 3, 0)
    if not any(map(any, padding)):
        return xp.ascontiguousarray(x)
    (top, bottom), (left, right) = padding
    channels, height, width, batch = x.shape
    framed = xp.full((channels, height + top + bottom, width + left + right, batch), value, x.dtype)
    framed[:, top : top + height, left : left + width] = x
    return framed


def batch_first(x: Any) -> Any:
    """[C, H, W, N] seen as [N, C, H, W]; no copy."""
    return x.transpose(3, 0, 1, 2)


def both(padding: Pair) -> tuple[Pair, Pair]:
    """The same padding on both sides: (h, w) -> ((h, h), (w, w))."""
    return (padding[0], padding[0]), (padding[1], padding[1])


def output_size(size: Pair, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair) -> Pair:
    """How many windows fit: floor((size + 2 padding - dilation (kernel - 1) - 1) / stride) + 1. Raises `ShapeError` if none does."""
    out = tuple((size[i] + 2 * padding[i] - dilation[i] * (kernel[i] - 1) - 1) // stride[i] + 1 for i in (0, 1))
    if min(out) < 1:
        raise ShapeError(
            "the window must fit into the padded image",
            f"image {size[0]}x{size[1]}, window {kernel[0]}x{kernel[1]}, padding {padding}, dilation {dilation}",
            "use a smaller kernel, more padding, or larger images",
        )
    return out  # type: ignore[return-value]


def taps(x: Any, kernel: Pair, stride: Pair, dilation: Pair, out: Pair) -> list[Any]:
    """For each position in the window, the view of x[C, H, W, N] that it meets, [C, *out, N]; row by row."""
    return [
        x[:, i : i + stride[0] * (out[0] - 1) + 1 : stride[0], j : j + stride[1] * (out[1] - 1) + 1 : stride[1]]
        for i in range(0, kernel[0] * dilation[0], dilation[0])
        for j in range(0, kernel[1] * dilation[1], dilation[1])
    ]


def columns(x: Any, xp: Any, kernel: Pair, stride: Pair, dilation: Pair, out: Pair) -> Any:
    """All windows of x[C, H, W, N] as a matrix [C * kernel, out * N] (im2col), in one strided copy."""
    c, h, w, n = x.strides
    shape = (x.shape[0], *kernel, *out, x.shape[3])
    strides = (c, h * dilation[0], w * dilation[1], h * stride[0], w * stride[1], n)
    windows = xp.lib.stride_tricks.as_strided(x, shape, strides)
    return xp.ascontiguousarray(windows).reshape(x.shape[0] * kernel[0] * kernel[1], -1)
