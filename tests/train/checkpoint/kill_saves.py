"""Saves that are killed: ``python -m tests.train.checkpoint.kill_saves FOLDER KILLS``.

A child saves in a loop until SIGKILL comes after a random time; then the folder must hold what it should. Prints JSON.
The model is made once and children are forked: a process that imports torch anew takes seconds.
"""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import torch

from nerf_metal.train.checkpoint import checkpoint_files, load_optimizer, load_weights
from tests.train.checkpoint.saving import save, trained, whole

SAVES = 5
"""Of a child until the kill, at most, at the speed of the first."""


def main(folder: Path, kills: int) -> None:
    """Kill and look, ``kills`` times."""
    torch.set_num_threads(1)  # a fork takes only the thread that calls it along
    model, optimizer = trained()
    chance = random.Random(5)
    seen = {"kills": 0, "saves": 0, "temporaries": 0, "orphans": 0}
    best = 0.0
    start = time.perf_counter()
    for last in range(5):  # three fill the folder, and from then on one goes for each that comes
        save_marked(folder, last, model, optimizer, psnr_of(last))
    longest = SAVES * (time.perf_counter() - start) / 5
    for _ in range(kills):
        child = os.fork()
        if child == 0:
            step = last
            while True:
                step += 1
                save_marked(folder, step, model, optimizer, psnr_of(step))
        time.sleep(chance.uniform(0, longest))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL  # it did not end by an error of its own

        newest, top = whole(folder), whole(folder, "best")
        assert newest.step >= last and top.psnr >= best, (newest.step, last, top.psnr, best)
        # Every PSNR from the start to here was saved as a whole at some time: none was lost.
        assert top.psnr == max(psnr_of(step) for step in range(newest.step + 1))
        for found in (newest, top):
            check_mark(found, *trained())
        stems = {path.stem for path in checkpoint_files(folder)}
        seen["kills"] += 1
        seen["saves"] += newest.step - last
        seen["temporaries"] += len(list(folder.glob(".*.tmp")))
        seen["orphans"] += len({path.name.partition(".")[0] for path in folder.glob("step_*.safetensors")} - stems)
        last, best = newest.step, top.psnr
    save_marked(folder, last + 1, model, optimizer, 0.0)
    seen["left"] = sorted(path.name for path in folder.iterdir())
    print(json.dumps(seen))


def psnr_of(step: int) -> float:
    """Up and down, so that the best is mostly an old one."""
    return random.Random(step).uniform(0, 40)


def learning(model: torch.nn.Module) -> list[torch.nn.Parameter]:
    """The parameters that an optimizer has."""
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def save_marked(folder: Path, step: int, model: torch.nn.Module, optimizer, psnr: float) -> None:
    """Save weights and moments that say of which step they are."""
    with torch.no_grad():
        for parameter in learning(model):
            parameter.fill_(step)
            optimizer.state[parameter]["exp_avg"].fill_(step)
    save(folder, step, model, optimizer, psnr=psnr)


def check_mark(found, model: torch.nn.Module, optimizer) -> None:
    """The checkpoint's files are all three of its step."""
    load_weights(found, model)
    load_optimizer(found, model, optimizer)
    for parameter in learning(model):
        assert bool((parameter == found.step).all() and (optimizer.state[parameter]["exp_avg"] == found.step).all())


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
