"""Parts for training loops of one's own in torch: the LipSDP regularizer and certified bounds that have gradients.

``import convexnn`` does not import this, since it imports torch; ``from convexnn.torch import ...`` does.
"""

from convexnn.torch.margins import margin_bounds
from convexnn.torch.regularizer import LipSDPRegularizer

__all__ = ["LipSDPRegularizer", "margin_bounds"]
