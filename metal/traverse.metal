// Marching through the occupancy grid: which steps along a ray lie in occupied cells.
// Reference and equations: nerf_metal/reference/traverse.py. Nothing here has a gradient: positions are constants.
#include "packed.h"
#include "traverse_ray.h"

// Is any of the 64 cells of a block occupied? A bit each.
// Dispatched threads: n_block_words, 32 blocks each.
// Not handled: blocks across the border of a finer cascade (resolution not a multiple of 16): theirs are all set,
// so that cells are looked at one by one.
kernel void traverse_blocks(
    device const int* bits [[buffer(0)]],  // [n_words]
    device int* blocks [[buffer(1)]],      // [n_block_words]
    constant TraverseParams& p [[buffer(2)]],
    uint gid [[thread_position_in_grid]])
{
    if (gid >= p.n_block_words) {
        return;
    }
    const TraverseGrid grid = traverse_grid(p);
    const uint side = grid.blocks;
    const uint count = grid.cascades * side * side * side;
    if (grid.cascades != 1u && (grid.resolution & 15u) != 0u) {
        blocks[gid] = -1;
        return;
    }
    uint word = 0u;
    for (uint j = 0u; j < 32u && 32u * gid + j < count; ++j) {
        const uint block = 32u * gid + j;
        const uint rows = block / side;  // y, z and cascade
        const uint planes = rows / side;
        // resolution = 4 side: cascades follow each other as planes do
        const uint first = 4u * (block - rows * side) + 16u * side * ((rows - planes * side) + 4u * side * planes);
        uint any = 0u;
        for (uint row = 0u; row < 16u; ++row) {
            const uint cell = first + 4u * side * ((row & 3u) + 4u * side * (row >> 2u));
            any |= uint(bits[min(cell >> 5u, p.n_words - 1u)]) >> (cell & 31u);
        }
        word |= ((any & 15u) != 0u ? 1u : 0u) << j;
    }
    blocks[gid] = int(word);
}

// Of each ray of a tile: how many samples it may have and then has, and where they go.
struct TraverseSamples {
    float most[TRAVERSE_TILE];
    float found[TRAVERSE_TILE];
    uint start[TRAVERSE_TILE];
    uint room[TRAVERSE_TILE];
};

// Steps of one length: t = t_start + n step_size, so that any number of them is skipped at once. The rays of a tile go
// from cell to cell together.
template <bool CASCADES, bool STORE>
inline void traverse_even(thread const TraverseRays& rays, thread TraverseSamples& samples, TraverseGrid grid,
                          device const int* bits, device const int* blocks, device float* t_starts,
                          constant TraverseParams& p)
{
    float n[TRAVERSE_TILE];
    float next[TRAVERSE_TILE];
    float n_end[TRAVERSE_TILE];
    float run[TRAVERSE_TILE];
    for (uint k = 0u; k < TRAVERSE_TILE; ++k) {
        const float way = (rays.t_max[k] - rays.t_start[k]) / p.step_size - 0.5f;
        n[k] = 0.0f;
        samples.found[k] = 0.0f;
        n_end[k] = way > 0.0f && samples.most[k] > 0.0f ? min(ceil(way), TRAVERSE_STEPS) : 0.0f;
    }
    uint left = 1u;
    while (left != 0u) {
        left = 0u;
        for (uint k = 0u; k < TRAVERSE_TILE; ++k) {
            const TraverseCell cell =
                traverse_cell<CASCADES>(rays, k, n[k], rays.step_cells[k], grid, bits, blocks);
            const float after = min(max(n[k] + 1.0f, ceil(cell.leave)), n_end[k]);
            const float passed = cell.occupied != 0u ? after - n[k] : 0.0f;
            const float now = min(passed, samples.most[k] - samples.found[k]);
            const float found = samples.found[k] + now;
            const float rest = min(n_end[k] - after, samples.most[k] - found);
            run[k] = now;
            next[k] = after;
            samples.found[k] = found;
            n_end[k] = rest > 0.0f ? n_end[k] : after;
            left += rest > 0.0f ? 1u : 0u;
        }
        if (STORE) {
            for (uint k = 0u; k < TRAVERSE_TILE; ++k) {
                const uint count = uint(int(run[k]));
                device float* t = t_starts + samples.start[k] + (uint(int(samples.found[k])) - count);
                for (uint j = 0u; j < count; ++j) {
                    t[j] = rays.t_start[k] + (n[k] + float(int(j))) * p.step_size;
                }
            }
        }
        for (uint k = 0u; k < TRAVERSE_TILE; ++k) {
            n[k] = next[k];
        }
    }
}

// Steps that grow with t: each depends on the one before, so that none is skipped, but those within a cell are not
// looked at. The rays of a tile go from cell to cell together.
template <bool STORE>
inline void traverse_growing(thread const TraverseRays& rays, thread TraverseSamples& samples, TraverseGrid grid,
                             device const int* bits, device const int* blocks, device float* t_starts,
                             constant TraverseParams& p)
{
    float t[TRAVERSE_TILE];
    float next[TRAVERSE_TILE];
    float t_end[TRAVERSE_TILE];  // below 0 when the ray has ended
    float leave[TRAVERSE_TILE];
    float larger[TRAVERSE_TILE];  // cells that a step must stay below
    float most[TRAVERSE_TILE];    // steps within the cell
    float run[TRAVERSE_TILE];     // those made
    float taken[TRAVERSE_TILE];   // and how many of them are samples: all or none
    float left[TRAVERSE_TILE];
    for (uint k = 0u; k < TRAVERSE_TILE; ++k) {
        t[k] = rays.t_start[k];
        t_end[k] = samples.most[k] > 0.0f ? rays.t_max[k] : -1.0f;
        left[k] = TRAVERSE_STEPS;
        samples.found[k] = 0.0f;
    }
    uint alive = 1u;
    while (alive != 0u) {
        for (uint k = 0u; k < TRAVERSE_TILE; ++k) {
            const float dt = traverse_dt(t[k], grid, p);
            const float middle = t[k] + 0.5f * dt;
            const TraverseCell cell =
                traverse_cell<true>(rays, k, middle, dt * rays.step_cells[k], grid, bits, blocks);
            leave[k] = min(cell.leave, t_end[k]);
            larger[k] = cell.scale < grid.coarsest ? cell.scale : FLOAT_MAX;
            most[k] = cell.occupied != 0u ? samples.most[k] - samples.found[k] : left[k];
            next[k] = middle < t_end[k] ? t[k] + dt : t[k];
            run[k] = middle < t_end[k] ? 1.0f : 0.0f;
            taken[k] = cell.occupied != 0u ? 1.0f : 0.0f;
        }
        uint moving = 1u;
        while (moving != 0u) {
            moving = 0u;
            for (uint k = 0u; k < TRAVERSE_TILE; ++k) {
                const float dt = traverse_dt(next[k], grid, p);
                const float ahead = min(leave[k] - (next[k] + 0.5f * dt), larger[k] - dt * rays.step_cells[k]);
                const float rest = min(ahead, most[k] - run[k]);
                next[k] = rest > 0.0f ? next[k] + dt : next[k];
                run[k] += rest > 0.0f ? 1.0f : 0.0f;
                moving += rest > 0.0f ? 1u : 0u;
            }
        }
        if (STORE) {
            for (uint k = 0u; k < TRAVERSE_TILE; ++k) {
                const uint first = samples.start[k] + uint(int(samples.found[k]));
                const uint count = uint(int(run[k] * taken[k]));
                float at = t[k];
                for (uint j = 0u; j < count; ++j) {
                    t_starts[first + j] = at;
                    at += traverse_dt(at, grid, p);
                }
            }
        }
        alive = 0u;
        for (uint k = 0u; k < TRAVERSE_TILE; ++k) {
            const float found = samples.found[k] + run[k] * taken[k];
            left[k] = next[k] > t[k] ? left[k] - run[k] : 0.0f;  // ends a ray whose step is lost in t's rounding
            const float goes_on = min(samples.most[k] - found, left[k]);
            samples.found[k] = found;
            t[k] = next[k];
            t_end[k] = goes_on > 0.0f ? t_end[k] : -1.0f;
            alive += goes_on > 0.0f ? 1u : 0u;
        }
    }
}

// The samples of a tile of rays. Counting and writing both call this, so that they find the same.
template <bool STORE>
inline void traverse_march(thread TraverseSamples& samples, device const float* rays_o, device const float* rays_d,
                           device const float* aabb, device const int* bits, device const int* blocks,
                           TraverseGrid grid, uint first, device float* t_starts, constant TraverseParams& p)
{
    TraverseRays rays;
    if (grid.cascades > 1u && p.cone_angle > 0.0f) {
        traverse_setup<true>(rays, rays_o, rays_d, aabb, grid, first, p);
        traverse_growing<STORE>(rays, samples, grid, bits, blocks, t_starts, p);
        return;
    }
    traverse_setup<false>(rays, rays_o, rays_d, aabb, grid, first, p);
    if (grid.cascades > 1u) {
        traverse_even<true, STORE>(rays, samples, grid, bits, blocks, t_starts, p);
    } else {
        traverse_even<false, STORE>(rays, samples, grid, bits, blocks, t_starts, p);
    }
}

// How many samples each ray has. traverse_write then marches once more: that takes no memory between them.
// Dispatched threads: ceil(n_rays / rays_per_thread).
// Not handled: more than 2^20 steps along a ray (it ends there).
kernel void traverse_count_f32(
    device const float* rays_o [[buffer(0)]],  // [n_rays, 3] world units
    device const float* rays_d [[buffer(1)]],  // [n_rays, 3]
    device const float* aabb [[buffer(2)]],    // [2, 3] world units
    device const int* bits [[buffer(3)]],      // [n_words]
    device const int* blocks [[buffer(4)]],    // [n_block_words]
    device int* counts [[buffer(5)]],          // [n_rays]
    constant TraverseParams& p [[buffer(6)]],
    uint gid [[thread_position_in_grid]])
{
    const TraverseGrid grid = traverse_grid(p);
    const uint begin = gid * p.rays_per_thread;
    if (begin >= p.n_rays || grid.cascades == 0u) {
        return;
    }
    const uint end = begin + min(p.rays_per_thread, p.n_rays - begin);
    device float* none = nullptr;
    TraverseSamples samples;
    for (uint tile = begin; tile < end; tile += TRAVERSE_TILE) {
        const uint n = min(end - tile, TRAVERSE_TILE);
        for (uint k = 0u; k < TRAVERSE_TILE; ++k) {
            samples.most[k] = k < n ? float(int(min(p.samples_per_ray, TRAVERSE_SAMPLES))) : 0.0f;
            samples.start[k] = 0u;
        }
        traverse_march<false>(samples, rays_o, rays_d, aabb, bits, blocks, grid, tile, none, p);
        for (uint k = 0u; k < n; ++k) {
            counts[tile + k] = int(samples.found[k]);
        }
    }
}

// The samples that packed_info has room for; what of it is not needed becomes samples of no length.
// Dispatched threads: ceil(n_rays / rays_per_thread).
// Not handled: more than 2^20 steps along a ray (it ends there).
kernel void traverse_write_f32(
    device const float* rays_o [[buffer(0)]],     // [n_rays, 3] world units
    device const float* rays_d [[buffer(1)]],     // [n_rays, 3]
    device const float* aabb [[buffer(2)]],       // [2, 3] world units
    device const int* bits [[buffer(3)]],         // [n_words]
    device const int* blocks [[buffer(4)]],       // [n_block_words]
    device const int* packed_info [[buffer(5)]],  // [n_rays, 2] start and count
    device int* ray_indices [[buffer(6)]],        // [n_samples]
    device float* t_starts [[buffer(7)]],         // [n_samples] world units
    device float* t_ends [[buffer(8)]],           // [n_samples] world units
    constant TraverseParams& p [[buffer(9)]],
    uint gid [[thread_position_in_grid]])
{
    const TraverseGrid grid = traverse_grid(p);
    const uint begin = gid * p.rays_per_thread;
    if (begin >= p.n_rays || grid.cascades == 0u) {
        return;
    }
    const uint end = begin + min(p.rays_per_thread, p.n_rays - begin);
    TraverseSamples samples;
    for (uint tile = begin; tile < end; tile += TRAVERSE_TILE) {
        const uint n = min(end - tile, TRAVERSE_TILE);
        for (uint k = 0u; k < TRAVERSE_TILE; ++k) {
            const PackedSpan span = packed_span(packed_info, tile + min(k, n - 1u), p.n_samples);
            samples.most[k] = k < n ? float(int(min(span.count, TRAVERSE_SAMPLES))) : 0.0f;
            samples.start[k] = span.first;
            samples.room[k] = span.count;
        }
        traverse_march<true>(samples, rays_o, rays_d, aabb, bits, blocks, grid, tile, t_starts, p);
        for (uint k = 0u; k < n; ++k) {
            const uint start = samples.start[k];
            const uint count = uint(int(samples.found[k]));
            for (uint i = start; i < start + count; ++i) {
                ray_indices[i] = int(tile + k);
                t_ends[i] = t_starts[i] + traverse_dt(t_starts[i], grid, p);
            }
            for (uint i = start + count; i < start + samples.room[k]; ++i) {  // was counted by other roundings
                ray_indices[i] = int(tile + k);
                t_starts[i] = 0.0f;
                t_ends[i] = 0.0f;
            }
        }
    }
}
