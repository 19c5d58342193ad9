"""Checkpoints: weights and optimizer as safetensors, and a JSON file that describes them.

``checkpoints/step_00001500.safetensors`` holds the weights. ``step_00001500.optimizer.safetensors`` holds Adam's
moments. ``step_00001500.json`` holds everything else, the sizes and SHA-256 of the other two files, and its own
checksum. The names have ``_rollback_N`` after the step if the watchdog has rolled the run back ``N`` times.

The JSON is written last, and every file gets its name by a rename. So a checkpoint without its JSON does not exist, an
interrupted save leaves the earlier checkpoints as they were, and no undamaged file is overwritten. Every file is
checked before it is used, and nothing is unpickled.

No random state is saved, because the random numbers of a step depend on the seed and the step alone
(:mod:`nerf_metal.data.batches`).
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
