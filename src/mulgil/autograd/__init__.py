"""Tensors and automatic differentiation: define by run."""

from mulgil.autograd.engine import enable_grad, is_grad_enabled, no_autodiff, no_grad
from mulgil.autograd.gradient import grad
from mulgil.autograd.tensor import Parameter, Tensor, apply, as_tensor
from mulgil.ops.function import Function

__all__ = ["Function", "Parameter", "Tensor", "apply", "as_tensor", "enable_grad", "grad", "is_grad_enabled", "no_autodiff", "no_grad"]
