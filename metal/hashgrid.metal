// Multiresolution hash encoding (Mueller et al. 2022): at each level a point's features are interpolated between
// the eight entries around it; levels lie side by side. Reference and equations: nerf_metal/reference/hashgrid.py.
//
// On the host the level is the slow axis of the grid: one level's entries stay in the cache while all points read
// them. Gradients of the table come in three ways: by level, one thread each, which is what the host runs; by
// float atomics, whose order a GPU does not keep; and by fixed-point atomics, whose sums any order gives alike.
#include "common.h"
#include "hashgrid.h"
#include "params.h"

// The points of a thread: `count` of them from the first.
struct HashgridSpan {
    uint first;
    uint count;
};

inline HashgridSpan hashgrid_span(constant HashgridParams& p, uint x)
{
    HashgridSpan span;
    span.first = min(x * p.points_per_thread, p.n_points);
    span.count = min(p.points_per_thread, p.n_points - span.first);
    return span;
}

template <uint F, typename T>
inline void hashgrid_forward_level(device const float* positions, device const T* table, device const int* levels,
                                   device float* features, constant HashgridParams& p, uint2 gid)
{
    const HashgridSpan span = hashgrid_span(p, gid.x);
    const HashgridLevel level = hashgrid_level(levels, p, gid.y);
    if (level.entries == 0u) {
        return;
    }
    const uint stride = p.n_levels * F;
    rows_sum<HashgridTile, HASHGRID_CORNERS, F>(features + span.first * stride + gid.y * F, stride,
                                                table + level.first * F, positions + 3u * span.first, level,
                                                span.count);
}

// Features of points.
// Dispatched threads: ceil(n_points / points_per_thread) x n_levels.
// Not handled: positions outside [0, 1] (they count as the nearest inside); other than 1, 2, 4 or 8 features.
template <typename T>
kernel void hashgrid_forward(
    device const float* positions [[buffer(0)]],  // [n_points, 3] in [0, 1]
    device const T* table [[buffer(1)]],          // [n_entries, n_features]
    device const int* levels [[buffer(2)]],       // [n_levels, 4] resolution, first entry, entries, hashed
    device float* features [[buffer(3)]],         // [n_points, n_levels * n_features]
    constant HashgridParams& p [[buffer(4)]],
    uint2 gid [[thread_position_in_grid]])
{
    if (gid.y >= p.n_levels) {
        return;
    }
    if (p.n_features == 1u) {
        hashgrid_forward_level<1u>(positions, table, levels, features, p, gid);
    } else if (p.n_features == 2u) {
        hashgrid_forward_level<2u>(positions, table, levels, features, p, gid);
    } else if (p.n_features == 4u) {
        hashgrid_forward_level<4u>(positions, table, levels, features, p, gid);
    } else if (p.n_features == 8u) {
        hashgrid_forward_level<8u>(positions, table, levels, features, p, gid);
    }
}

INSTANTIATE(hashgrid_forward_f32, hashgrid_forward, float);
INSTANTIATE(hashgrid_forward_f16, hashgrid_forward, half);

template <uint F>
inline void hashgrid_backward_level(device const float* positions, device const float* grad_features,
                                    device const int* levels, device float* grad_table,
                                    constant HashgridParams& p, uint l)
{
    const HashgridLevel level = hashgrid_level(levels, p, l);
    if (level.entries == 0u) {
        return;
    }
    rows_add<HashgridTile, HASHGRID_CORNERS, F>(grad_table + level.first * F, grad_features + l * F, p.n_levels * F,
                                                positions, level, p.n_points);
}

// Adds to the gradient of the table, a level a thread, points in order: no two threads meet where levels do not
// overlap, and the sums are the same however many threads there are.
// Dispatched threads: n_levels.
// Not handled: levels that share entries.
kernel void hashgrid_backward_levels_f32(
    device const float* positions [[buffer(0)]],  // [n_points, 3] in [0, 1]
    device const float* grad_features [[buffer(1)]],  // [n_points, n_levels * n_features]
    device const int* levels [[buffer(2)]],  // [n_levels, 4]
    device float* grad_table [[buffer(3)]],  // [n_entries, n_features]
    constant HashgridParams& p [[buffer(4)]],
    uint l [[thread_position_in_grid]])
{
    if (l >= p.n_levels) {
        return;
    }
    if (p.n_features == 1u) {
        hashgrid_backward_level<1u>(positions, grad_features, levels, grad_table, p, l);
    } else if (p.n_features == 2u) {
        hashgrid_backward_level<2u>(positions, grad_features, levels, grad_table, p, l);
    } else if (p.n_features == 4u) {
        hashgrid_backward_level<4u>(positions, grad_features, levels, grad_table, p, l);
    } else if (p.n_features == 8u) {
        hashgrid_backward_level<8u>(positions, grad_features, levels, grad_table, p, l);
    }
}

// A sum as 64 bits in two words, 16 before the point and 48 behind it: whole numbers add up to the same in any
// order. The carry goes from word to word by what each addition found there.
constexpr constant float HASHGRID_FIXED_HIGH = 65536.0f;      // 2^16 units of the high word to 1
constexpr constant float HASHGRID_FIXED_LOW = 4294967296.0f;  // 2^32 units of the low word to one of the high
constexpr constant float HASHGRID_FIXED_LIMIT = 16384.0f;     // of one addend; sums wrap at twice that

struct HashgridFixed {
    uint low;
    uint high;
};

inline HashgridFixed hashgrid_negated(HashgridFixed a)
{
    HashgridFixed result;
    result.low = 0u - a.low;
    result.high = ~a.high + (a.low == 0u ? 1u : 0u);
    return result;
}

// The magnitude first: what is left of it behind the high word's unit is exact, that of a small negative number is
// not.
inline HashgridFixed hashgrid_fixed(float value)
{
    const float size = fabs(value) < HASHGRID_FIXED_LIMIT ? fabs(value) : HASHGRID_FIXED_LIMIT;  // of a NaN too
    const float units = size * HASHGRID_FIXED_HIGH;
    const float whole = floor(units);
    HashgridFixed result;
    result.low = uint((units - whole) * HASHGRID_FIXED_LOW);
    result.high = uint(whole);
    if (value < 0.0f) {
        result = hashgrid_negated(result);
    }
    return result;
}

// Adds to sum i, as a float or in fixed point.
inline void hashgrid_add(device atomic_float* sums, uint i, float value)
{
    atomic_fetch_add_explicit(&sums[i], value, memory_order_relaxed);
}

inline void hashgrid_add(device atomic_uint* sums, uint i, float value)
{
    const HashgridFixed addend = hashgrid_fixed(value);
    const uint before = atomic_fetch_add_explicit(&sums[2u * i], addend.low, memory_order_relaxed);
    const uint carry = before > 0xFFFFFFFFu - addend.low ? 1u : 0u;
    atomic_fetch_add_explicit(&sums[2u * i + 1u], addend.high + carry, memory_order_relaxed);
}

// Adds to the gradient of the table by atomics: floats, whose order is the machine's; or in fixed point, WORDS = 2, low
// word and high word, the exact sums of addends cut to whole 2^-48.
// Dispatched threads: ceil(n_points / points_per_thread) x n_levels.
// Not handled: as floats the same sums twice; in fixed point addends beyond 2^14 (cut), sums beyond 2^15 (they wrap),
// NaN (counts as 2^14).
template <typename A, uint WORDS>
kernel void hashgrid_backward_add(
    device const float* positions [[buffer(0)]],      // [n_points, 3] in [0, 1]
    device const float* grad_features [[buffer(1)]],  // [n_points, n_levels * n_features]
    device const int* levels [[buffer(2)]],           // [n_levels, 4]
    device A* sums [[buffer(3)]],                     // [n_entries, n_features, WORDS]
    constant HashgridParams& p [[buffer(4)]],
    uint2 gid [[thread_position_in_grid]])
{
    if (gid.y >= p.n_levels) {
        return;
    }
    const HashgridSpan span = hashgrid_span(p, gid.x);
    const HashgridLevel level = hashgrid_level(levels, p, gid.y);
    if (level.entries == 0u) {
        return;
    }
    HashgridTile tile;
    for (uint done = 0u; done < span.count;) {
        const uint point = span.first + done;
        const uint n = locate_rows(tile, positions + 3u * point, level, span.count - done);
        for (uint k = 0u; k < n; ++k) {
            const uint row = ((point + k) * p.n_levels + gid.y) * p.n_features;
            for (uint c = k; c < HASHGRID_CORNERS * TUNING_POINTS; c += TUNING_POINTS) {
                const uint entry = (level.first + tile.index[c]) * p.n_features;
                for (uint f = 0u; f < p.n_features; ++f) {
                    hashgrid_add(sums, entry + f, tile.weight[c] * grad_features[row + f]);
                }
            }
        }
        done += n;
    }
}

INSTANTIATE(hashgrid_backward_atomic_f32, hashgrid_backward_add, atomic_float, 1u);
INSTANTIATE(hashgrid_backward_fixed_f32, hashgrid_backward_add, atomic_uint, 2u);

// Adds the sums of hashgrid_backward_fixed_f32 as floats.
// Dispatched threads: n_entries * n_features.
// Not handled: nothing.
kernel void hashgrid_fixed_f32(
    device const int* sums [[buffer(0)]],  // [n_entries, n_features, 2]
    device float* grad_table [[buffer(1)]],  // [n_entries, n_features]
    constant HashgridParams& p [[buffer(2)]],
    uint i [[thread_position_in_grid]])
{
    if (i >= p.n_entries * p.n_features) {
        return;
    }
    HashgridFixed sum;
    sum.low = uint(sums[2u * i]);
    sum.high = uint(sums[2u * i + 1u]);
    const bool negative = sum.high >= 0x80000000u;
    if (negative) {
        sum = hashgrid_negated(sum);
    }
    // The low word in two halves: a float holds 24 bits exactly.
    const float behind = float(int(sum.low >> 16u)) * 65536.0f + float(int(sum.low & 0xFFFFu));
    const float size = (float(int(sum.high)) + behind / HASHGRID_FIXED_LOW) / HASHGRID_FIXED_HIGH;
    grad_table[i] += negative ? -size : size;
}

// d features / d position: the weights' own slopes, times what lies at the corners.
template <uint F, typename T>
inline void hashgrid_slopes(device const float* positions, device const T* table, device const int* levels,
                            device const float* grad_features, device float* grad_positions,
                            constant HashgridParams& p, uint n)
{
    float gx[TUNING_POINTS];
    float gy[TUNING_POINTS];
    float gz[TUNING_POINTS];
    for (uint k = 0u; k < n; ++k) {
        gx[k] = gy[k] = gz[k] = 0.0f;
    }
    HashgridTile tile;
    for (uint l = 0u; l < p.n_levels; ++l) {
        const HashgridLevel level = hashgrid_level(levels, p, l);
        if (level.entries == 0u) {
            continue;
        }
        locate_rows(tile, positions, level, n);
        device const T* entries = table + level.first * F;
        for (uint k = 0u; k < n; ++k) {
            fetch_indexed_soon<HASHGRID_CORNERS, F>(entries, tile.index + k, TUNING_POINTS);
        }
        for (uint k = 0u; k < n; ++k) {
            float along[HASHGRID_CORNERS];
            for (uint c = 0u; c < HASHGRID_CORNERS; ++c) {
                along[c] = 0.0f;
                for (uint f = 0u; f < F; ++f) {
                    along[c] += float(entries[tile.index[c * TUNING_POINTS + k] * F + f]) *
                                grad_features[(k * p.n_levels + l) * F + f];
                }
            }
            const float fx = tile.fx[k];
            const float fy = tile.fy[k];
            const float fz = tile.fz[k];
            // What is left of the corners after interpolating along x; then along y.
            const float x00 = along[0] + fx * (along[1] - along[0]);
            const float x10 = along[2] + fx * (along[3] - along[2]);
            const float x01 = along[4] + fx * (along[5] - along[4]);
            const float x11 = along[6] + fx * (along[7] - along[6]);
            const float near = (1.0f - fy) * (along[1] - along[0]) + fy * (along[3] - along[2]);
            const float far = (1.0f - fy) * (along[5] - along[4]) + fy * (along[7] - along[6]);
            gx[k] += level.scale * ((1.0f - fz) * near + fz * far);
            gy[k] += level.scale * ((1.0f - fz) * (x10 - x00) + fz * (x11 - x01));
            gz[k] += level.scale * ((1.0f - fy) * (x01 - x00) + fy * (x11 - x10));
        }
    }
    for (uint k = 0u; k < n; ++k) {
        const float x = positions[3u * k];
        const float y = positions[3u * k + 1u];
        const float z = positions[3u * k + 2u];
        grad_positions[3u * k] = x >= 0.0f && x <= 1.0f ? gx[k] : 0.0f;
        grad_positions[3u * k + 1u] = y >= 0.0f && y <= 1.0f ? gy[k] : 0.0f;
        grad_positions[3u * k + 2u] = z >= 0.0f && z <= 1.0f ? gz[k] : 0.0f;
    }
}

// Gradient to the positions. 0 outside [0, 1], where positions are cut.
// Dispatched threads: ceil(n_points / points_per_thread).
// Not handled: the kinks between cells (the slope there is the next cell's).
template <typename T>
kernel void hashgrid_backward_positions(
    device const float* positions [[buffer(0)]],      // [n_points, 3] in [0, 1]
    device const T* table [[buffer(1)]],              // [n_entries, n_features]
    device const int* levels [[buffer(2)]],           // [n_levels, 4]
    device const float* grad_features [[buffer(3)]],  // [n_points, n_levels * n_features]
    device float* grad_positions [[buffer(4)]],       // [n_points, 3]
    constant HashgridParams& p [[buffer(5)]],
    uint gid [[thread_position_in_grid]])
{
    const HashgridSpan span = hashgrid_span(p, gid);
    for (uint done = 0u; done < span.count; done += TUNING_POINTS) {
        const uint point = span.first + done;
        const uint n = min(TUNING_POINTS, span.count - done);
        device const float* at = positions + 3u * point;
        device const float* grad = grad_features + point * p.n_levels * p.n_features;
        device float* out = grad_positions + 3u * point;
        if (p.n_features == 1u) {
            hashgrid_slopes<1u>(at, table, levels, grad, out, p, n);
        } else if (p.n_features == 2u) {
            hashgrid_slopes<2u>(at, table, levels, grad, out, p, n);
        } else if (p.n_features == 4u) {
            hashgrid_slopes<4u>(at, table, levels, grad, out, p, n);
        } else if (p.n_features == 8u) {
            hashgrid_slopes<8u>(at, table, levels, grad, out, p, n);
        }
    }
}

INSTANTIATE(hashgrid_backward_positions_f32, hashgrid_backward_positions, float);
INSTANTIATE(hashgrid_backward_positions_f16, hashgrid_backward_positions, half);
