"""PyTorch's `nn.utils`: gradient clipping."""

from mulgil.autograd.clip import clip_grad_norm_, clip_grad_value_

__all__ = ["clip_grad_norm_", "clip_grad_value_"]
