"""A model and what trains it, a step at a time, for tests that look at single steps."""

from __future__ import annotations

import torch

from nerf_metal.data.scene import Scene
from nerf_metal.models import Model, Space, build_model
from nerf_metal.models.registry import model_config
from nerf_metal.train.average import AveragedModel
from nerf_metal.train.lines import TrainLine
from nerf_metal.train.options import TrainConfig
from nerf_metal.train.run import new_model
from nerf_metal.train.statistics import Statistics


def fresh_model(config: TrainConfig, aabb: torch.Tensor, near: float = 2.0, far: float = 6.0) -> Model:
    """The model of a run's options, with fresh weights."""
    chosen = model_config(config.field, config, config.field_options)
    return build_model(config.field, chosen, Space(aabb, near, far), config.seed)


class Stepper:
    """The loop's step without a run folder: see :mod:`nerf_metal.train.loop`."""

    def __init__(self, config: TrainConfig, scene: Scene, device: str = "cpu") -> None:
        split = scene.splits["train"]
        self.model = new_model(config, scene)
        self.model.fit_to(split)
        self.model.to(torch.device(device))
        self.average = AveragedModel(self.model, config.ema_decay)
        self.optimizer = self.model.optimizer(config.lr)
        self.batches = self.model.batches(
            split, background=config.background, seed=config.seed, device=torch.device(device)
        )

    def step(self, step: int, lr: float) -> TrainLine:
        """One step; what it says of itself."""
        for group in self.optimizer.param_groups:
            group["lr"] = lr * group.get("rate", 1.0)
        if not getattr(self.optimizer, "clears_gradients", False):
            self.optimizer.zero_grad()
        batch = self.batches.draw(step, self.model.batch_rays)
        found = self.model.loss(batch, step)
        if found.loss.requires_grad:
            found.loss.backward()
            self.optimizer.step()
        self.average.update(step)
        statistics = Statistics(found.loss.device)
        statistics.add([(found, 1.0)], batch, None)
        return statistics.read()
