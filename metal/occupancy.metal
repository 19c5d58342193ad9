// The occupancy grid: which cells to look at, the densities remembered of them, and their bits.
// Reference and equations: nerf_metal/reference/occupancy.py. Nothing here has a gradient.
#include "common.h"
#include "params.h"
#include "random.h"

// No grid is finer; it keeps the products below within 32 bits.
constexpr constant uint OCCUPANCY_RESOLUTION = 256u;
// How often an occupied cell is looked for: where one cell in 20 is occupied, a half of the draws find one.
constexpr constant uint OCCUPANCY_TRIES = 16u;

// Chooses cells and a random place in each.
// Dispatched threads: n_cells, one per cell.
// Not handled: grids without cells (nothing is written).
kernel void occupancy_cells_f32(
    device const int* bits [[buffer(0)]],    // [n_words]
    device const float* aabb [[buffer(1)]],  // [2, 3] world units
    device int* cells [[buffer(2)]],         // [n_cells]
    device float* positions [[buffer(3)]],   // [n_cells, 3] world units
    constant OccupancyCellsParams& p [[buffer(4)]],
    uint gid [[thread_position_in_grid]])
{
    const uint total = 32u * p.n_words;
    const uint side = min(p.resolution, OCCUPANCY_RESOLUTION);
    if (gid >= p.n_cells || total == 0u || side == 0u) {
        return;
    }
    uint cell = 0u;
    if (p.in_order != 0u) {
        const uint first = p.first_cell % total;
        const uint ahead = gid % total;
        cell = first < total - ahead ? first + ahead : first - (total - ahead);
    } else {
        cell = mulhi(random_word(gid, 0u, p.seed, STREAM_OCCUPANCY), total);
        const uint tries = gid < p.n_uniform ? 1u : OCCUPANCY_TRIES;
        for (uint i = 1u; i < tries && ((uint(bits[cell >> 5u]) >> (cell & 31u)) & 1u) == 0u; ++i) {
            cell = mulhi(random_word(gid, i, p.seed, STREAM_OCCUPANCY), total);
        }
    }
    cells[gid] = int(cell);
    const uint volume = side * side * side;
    const uint cascade = min(cell / volume, 31u);
    uint rest = cell;
    for (uint axis = 0u; axis < 3u; ++axis) {
        const float half_side = 0.5f * (aabb[3u + axis] - aabb[axis]);
        const float within = float(int(rest % side)) + random_uniform(gid, axis, p.seed, STREAM_CELL);
        const float place = within * (2.0f / float(side)) - 1.0f;  // -1 to 1 across the cascade
        positions[3u * gid + axis] = aabb[axis] + half_side + half_side * float(1u << cascade) * place;
        rest /= side;
    }
}

// density = max(density, value) of the given cells. Floats that are not negative are ordered as their bits are, so that
// the maximum is atomic and the same in any order.
// Dispatched threads: n_cells, one per cell.
// Not handled: densities below 0; cells outside the grid (left out).
kernel void occupancy_update_f32(
    device const int* cells [[buffer(0)]],      // [n_cells]
    device const float* values [[buffer(1)]],   // [n_cells]
    device atomic_uint* density [[buffer(2)]],  // [n_words, 32] the bits of floats
    constant OccupancyUpdateParams& p [[buffer(3)]],
    uint gid [[thread_position_in_grid]])
{
    if (gid >= p.n_cells) {
        return;
    }
    const uint cell = uint(cells[gid]);
    const float value = values[gid];
    if (cell / 32u < p.n_words && value > 0.0f) {  // a NaN is not
        atomic_fetch_max_explicit(&density[cell], as_type<uint>(value), memory_order_relaxed);
    }
}

// Bit i of word w: density of cell 32 w + i > limit.
// Dispatched threads: n_words, one per word.
// Not handled: nothing.
kernel void occupancy_pack_f32(
    device const float* density [[buffer(0)]],  // [n_words, 32]
    device const float* limit [[buffer(1)]],    // [1]
    device int* bits [[buffer(2)]],             // [n_words]
    constant OccupancyPackParams& p [[buffer(3)]],
    uint gid [[thread_position_in_grid]])
{
    if (gid >= p.n_words) {
        return;
    }
    const float above = limit[0];
    uint word = 0u;
    for (uint i = 0u; i < 32u; ++i) {
        word |= (density[32u * gid + i] > above ? 1u : 0u) << i;
    }
    bits[gid] = int(word);
}
