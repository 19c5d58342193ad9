"""Checkpoints: weights and optimizer as safetensors, and beside them JSON that says what they are.

``checkpoints/step_00001500.safetensors`` holds the weights, ``.optimizer.safetensors`` Adam's moments and ``.json`` all
the rest, with the sizes and SHA-256 of the other two and a checksum of its own; behind the step stands ``_rollback_n``
where the watchdog has rolled the run back ``n`` times. The JSON is written last and every file by a temporary name and
a rename: a checkpoint without its JSON does not exist, an interrupted save leaves those before, and nothing whole is
overwritten. What is read is checked first; nothing is unpickled.

No random state is kept: what a step draws depends on the seed and the step alone (:mod:`nerf_metal.data.batches`).
"""

from nerf_metal.train.checkpoint.record import Checkpoint, checkpoint_files
from nerf_metal.train.checkpoint.store import find_checkpoint, save_checkpoint
from nerf_metal.train.checkpoint.tensors import load_optimizer, load_weights

__all__ = [
    "Checkpoint",
    "checkpoint_files",
    "find_checkpoint",
    "load_optimizer",
    "load_weights",
    "save_checkpoint",
]
