// Marching through the occupancy grid: a ray's way through the cascades, and what is at a place along it.
#ifndef NERF_METAL_TRAVERSE_RAY_H
#define NERF_METAL_TRAVERSE_RAY_H

#include "common.h"
#include "params.h"
#include "random.h"

// Rays that a thread marches together.
constexpr constant uint TRAVERSE_TILE = TUNING_ITEMS;

// What no grid and no ray exceeds: it bounds the loops, whatever the arguments are.
constexpr constant uint TRAVERSE_CASCADES = 8u;
constexpr constant uint TRAVERSE_RESOLUTION = 256u;
constexpr constant uint TRAVERSE_SAMPLES = 65536u;
constexpr constant float TRAVERSE_STEPS = 1048576.0f;
// Cells of a block along an axis, as a shift.
constexpr constant uint TRAVERSE_BLOCK = 2u;
// Cells a step below which an axis stands still: its reciprocal would overflow.
constexpr constant float TRAVERSE_STILL = 1e-30f;

// The grid's sizes; cascades is 0 where there are no cells, or more than the buffers hold.
struct TraverseGrid {
    uint cascades;
    uint resolution;
    uint blocks;     // along an axis
    float middle;    // cells from a cascade's border to its centre
    float coarsest;  // 2^(cascades - 1)
};

inline TraverseGrid traverse_grid(constant TraverseParams& p)
{
    TraverseGrid grid;
    grid.cascades = min(p.cascades, TRAVERSE_CASCADES);
    grid.resolution = min(p.resolution, TRAVERSE_RESOLUTION);
    grid.blocks = (grid.resolution + 3u) >> TRAVERSE_BLOCK;
    const uint cells = grid.cascades * grid.resolution * grid.resolution * grid.resolution;
    const uint blocks = grid.cascades * grid.blocks * grid.blocks * grid.blocks;
    const bool fits = cells != 0u && (cells + 31u) / 32u <= p.n_words && (blocks + 31u) / 32u <= p.n_block_words;
    grid.cascades = fits ? grid.cascades : 0u;
    grid.middle = 0.5f * float(int(grid.resolution));
    grid.coarsest = float(1 << (max(grid.cascades, 1u) - 1u));
    return grid;
}

// Rays in cells of the finest cascade about the box's centre: a place is a + s b, where s counts steps or, where
// these grow, is t.
struct TraverseRays {
    float a[3][TRAVERSE_TILE];
    float b[3][TRAVERSE_TILE];
    float inverse[3][TRAVERSE_TILE];  // 1 / b; 0 where b stands still, and then
    float still[3][TRAVERSE_TILE];    // the distance to a border is this
    float t_start[TRAVERSE_TILE];     // of the first step
    float t_max[TRAVERSE_TILE];
    float step_cells[TRAVERSE_TILE];  // cells passed while s grows by 1, along the axis that passes most
};

inline float traverse_dt(float t, TraverseGrid grid, constant TraverseParams& p)
{
    return min(max(t * p.cone_angle, p.step_size), p.step_size * grid.coarsest);
}

// A tile of rays' ways through the outermost cascade's box, by slabs as in march.metal; t_max <= t_start is a
// miss.
template <bool GROWING>
inline void traverse_setup(thread TraverseRays& rays, device const float* rays_o, device const float* rays_d,
                           device const float* aabb, TraverseGrid grid, uint first, constant TraverseParams& p)
{
    float centre[3];
    float half_side[3];
    for (uint axis = 0u; axis < 3u; ++axis) {
        half_side[axis] = 0.5f * (aabb[3u + axis] - aabb[axis]);
        centre[axis] = aabb[axis] + half_side[axis];
    }
    for (uint k = 0u; k < TRAVERSE_TILE; ++k) {
        const uint ray = min(first + k, p.n_rays - 1u);  // what is past the last is not looked at
        float t_min = p.t_near;
        float t_max = p.t_far;
        float o[3];
        float d[3];
        for (uint axis = 0u; axis < 3u; ++axis) {
            const float origin = rays_o[3u * ray + axis];
            const float direction = rays_d[3u * ray + axis];
            const float lo = centre[axis] - half_side[axis] * grid.coarsest;
            const float hi = centre[axis] + half_side[axis] * grid.coarsest;
            const float inverse = 1.0f / direction;
            const float t0 = (lo - origin) * inverse;
            const float t1 = (hi - origin) * inverse;
            const float enter = max(t_min, min(t0, t1));
            const float leave = min(t_max, max(t0, t1));
            const float beside = origin < lo || origin > hi ? -1.0f : t_max;  // t_near >= 0, so -1 is a miss
            const bool parallel = fabs(direction) < FLOAT_TINY;
            t_min = parallel ? t_min : enter;
            t_max = parallel ? beside : leave;
            const float cells = grid.middle / half_side[axis];
            o[axis] = (origin - centre[axis]) * cells;
            d[axis] = parallel ? 0.0f : direction * cells;
        }
        const float dt = GROWING ? traverse_dt(t_min, grid, p) : p.step_size;
        const float jitter = random_uniform(ray, 0u, p.seed, STREAM_TRAVERSE);
        const float t_start = t_min + (p.stratified != 0u ? jitter * dt : 0.0f);
        const float middle = t_start + 0.5f * dt;
        rays.t_start[k] = t_start;
        rays.t_max[k] = t_max;
        float step_cells = 0.0f;
        for (uint axis = 0u; axis < 3u; ++axis) {
            const float b = GROWING ? d[axis] : p.step_size * d[axis];
            const bool moves = fabs(b) > TRAVERSE_STILL;
            rays.a[axis][k] = GROWING ? o[axis] : o[axis] + middle * d[axis];
            rays.b[axis][k] = b;
            rays.inverse[axis][k] = moves ? 1.0f / b : 0.0f;
            rays.still[axis][k] = moves ? 0.0f : FLOAT_MAX;
            step_cells = max(step_cells, fabs(b));
        }
        rays.step_cells[k] = step_cells;
    }
}

// What is at s along a ray.
struct TraverseCell {
    uint occupied;  // 0 or 1
    float leave;    // s of the exit from the cell, or from its whole block if that is empty
    float scale;    // 2^cascade
};

// The cascade is the finest that covers the place and whose cells are larger than the step. No branches: a vector
// of rays on the host.
template <bool CASCADES>
inline TraverseCell traverse_cell(thread const TraverseRays& rays, uint k, float s, float step_cells,
                                  TraverseGrid grid, device const int* bits, device const int* blocks)
{
    const int resolution = int(grid.resolution);
    const int side = int(grid.blocks);
    float place[3];
    for (uint axis = 0u; axis < 3u; ++axis) {
        place[axis] = rays.a[axis][k] + s * rays.b[axis][k];
    }
    int cascade = 0;
    if (CASCADES) {
        const float reach = max(max(fabs(place[0]), fabs(place[1])), fabs(place[2])) / grid.middle;
        // the exponent of a number in [2^(k - 1), 2^k) is k + 126
        cascade = int(as_type<uint>(max(step_cells, reach)) >> 23u) - 126;
        cascade = min(max(cascade, 0), int(grid.cascades) - 1);
    }
    const float scale = as_type<float>(uint(127 + cascade) << 23u);
    const float shrink = as_type<float>(uint(127 - cascade) << 23u);
    int cell[3];
    for (uint axis = 0u; axis < 3u; ++axis) {
        const float x = (CASCADES ? place[axis] * shrink : place[axis]) + grid.middle;
        cell[axis] = int(min(max(0.0f, x), 2.0f * grid.middle - 1.0f));
    }
    const int index = cell[0] + resolution * (cell[1] + resolution * (cell[2] + resolution * cascade));
    const int block = (cell[0] >> TRAVERSE_BLOCK) +
                      side * ((cell[1] >> TRAVERSE_BLOCK) + side * ((cell[2] >> TRAVERSE_BLOCK) + side * cascade));
    TraverseCell found;
    found.occupied = (uint(bits[index >> 5]) >> uint(index & 31)) & 1u;
    found.scale = scale;
    const uint any = (uint(blocks[block >> 5]) >> uint(block & 31)) & 1u;
    const int within = any != 0u ? 0 : (1 << TRAVERSE_BLOCK) - 1;  // the cell's last bits within what is left
    float leave = FLOAT_MAX;
    for (uint axis = 0u; axis < 3u; ++axis) {
        const int beyond = rays.b[axis][k] > 0.0f ? (cell[axis] | within) + 1 : cell[axis] & ~within;
        const float border = (float(beyond) - grid.middle) * scale;
        leave = min(leave, (border - rays.a[axis][k]) * rays.inverse[axis][k] + rays.still[axis][k]);
    }
    found.leave = leave;
    return found;
}

#endif
