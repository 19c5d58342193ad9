"""As in tests/: tiny tensors, of which a second thread gains nothing, and costs much on a busy machine."""

import torch

torch.set_num_threads(1)
