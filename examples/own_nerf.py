"""Train a NeRF of your own on the built-in scene: ``python examples/own_nerf.py [STEPS]``."""

import sys

import torch

from nerf_metal import data, nn


class Field(torch.nn.Module):
    def __init__(self, aabb):
        super().__init__()
        self.register_buffer("aabb", aabb)
        self.position = nn.HashEncoding(num_levels=8, log2_table_size=15, finest_resolution=128)
        self.direction = nn.SphericalHarmonics(degree=4)
        self.geometry = nn.FusedMLP(self.position.output_width, 16)
        self.color = nn.FusedMLP(16 + self.direction.output_width, 3, output_activation="sigmoid")

    def features(self, x):
        return self.geometry(self.position((x - self.aabb[0]) / (self.aabb[1] - self.aabb[0])))

    def density(self, x):
        return torch.exp(self.features(x)[:, 0].clamp(max=10))

    def forward(self, x, d):
        h = self.features(x)
        return self.color(torch.cat((h, self.direction(d)), dim=-1)), torch.exp(h[:, 0].clamp(max=10))


def render(rays, **options):
    def sigma_fn(t_starts, t_ends, ray):
        return field.density(nn.sample_positions(rays.rays_o, rays.rays_d, t_starts, t_ends, ray))

    def rgb_sigma_fn(t_starts, t_ends, ray):
        return field(nn.sample_positions(rays.rays_o, rays.rays_d, t_starts, t_ends, ray), rays.rays_d[ray])

    ray, t_starts, t_ends, _ = grid.sampling(rays.rays_o, rays.rays_d, sigma_fn, **options)
    return nn.render(t_starts, t_ends, ray, len(rays.rays_o), rgb_sigma_fn=rgb_sigma_fn, background=rays.background).rgb


steps = int(sys.argv[1]) if len(sys.argv) > 1 else 300
device = "mps" if torch.backends.mps.is_available() else "cuda" if torch.cuda.is_available() else "cpu"
scene = data.make_embedded_scene(resolution=32, train_views=50)
train, test = (data.PixelBatches(scene.splits[name], "white", device=device) for name in ("train", "test"))
field, grid = Field(scene.aabb).to(device), nn.OccupancyGrid(scene.aabb, 32, step_size=0.05).to(device)
optimizer = nn.FusedAdam(field.parameters(), lr=1e-2)
for step in range(steps):
    if step % 16 == 0:
        grid.update(field.density, step=step // 16)
    rays = train.draw(step, 256)
    (render(rays, stratified=True, seed=rays.seed) - rays.truth).square().mean().backward()
    optimizer.step()
rays = test.draw(0, 2048)
own, blank = (-10 * (x - rays.truth).square().mean().log10().item() for x in (render(rays), rays.background))
print(f"PSNR on test views after {steps} steps: {own:.2f} dB, of a blank picture: {blank:.2f} dB")
