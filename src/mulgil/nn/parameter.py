"""PyTorch's `nn.parameter`."""

from mulgil.autograd import Parameter

__all__ = ["Parameter"]
