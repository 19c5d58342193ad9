// Spherical harmonics of directions: what a colour network sees of where it is looked at from.
// Reference and equations: nerf_metal/reference/sh.py.
#include "common.h"
#include "params.h"

// Factors of the bands: sqrt(n / pi) times a fraction, as the reference writes them.
constexpr constant float SH_0 = 0.28209479177387814f;    // sqrt(1 / pi) / 2
constexpr constant float SH_1 = 0.48860251190291992f;    // sqrt(3 / pi) / 2
constexpr constant float SH_2 = 1.0925484305920792f;     // sqrt(15 / pi) / 2, m != 0
constexpr constant float SH_2_0 = 0.31539156525252000f;  // sqrt(5 / pi) / 4, m = 0
constexpr constant float SH_3_0 = 0.37317633259011540f;  // sqrt(7 / pi) / 4, m = 0
constexpr constant float SH_3_1 = 0.45704579946446573f;  // sqrt(42 / pi) / 8, |m| = 1
constexpr constant float SH_3_2 = 2.8906114426405540f;   // sqrt(105 / pi) / 2, |m| = 2
constexpr constant float SH_3_3 = 0.59004358992664351f;  // sqrt(70 / pi) / 8, |m| = 3

// Directions of a loop of known length.
constexpr constant uint SH_TILE = TUNING_ITEMS;

// All components of a tile of n directions.
template <uint DEGREE>
inline void sh_values_tile(device float* values, device const float* directions, uint n)
{
    for (uint k = 0u; k < n; ++k) {
        const float x = directions[3u * k];
        const float y = directions[3u * k + 1u];
        const float z = directions[3u * k + 2u];
        device float* value = values + DEGREE * DEGREE * k;
        value[0] = SH_0;
        if (DEGREE > 1u) {
            value[1] = -SH_1 * y;
            value[2] = SH_1 * z;
            value[3] = -SH_1 * x;
        }
        if (DEGREE > 2u) {
            value[4] = SH_2 * (x * y);
            value[5] = -SH_2 * (y * z);
            value[6] = SH_2_0 * (3.0f * (z * z) - 1.0f);
            value[7] = -SH_2 * (x * z);
            value[8] = 0.5f * SH_2 * (x * x - y * y);
        }
        if (DEGREE > 3u) {
            const float ring = 1.0f - 5.0f * (z * z);
            value[9] = SH_3_3 * y * (y * y - 3.0f * (x * x));
            value[10] = SH_3_2 * (x * y) * z;
            value[11] = SH_3_1 * y * ring;
            value[12] = SH_3_0 * z * (5.0f * (z * z) - 3.0f);
            value[13] = SH_3_1 * x * ring;
            value[14] = 0.5f * SH_3_2 * z * (x * x - y * y);
            value[15] = SH_3_3 * x * (3.0f * (y * y) - x * x);
        }
    }
}

template <uint DEGREE>
inline void sh_values(device float* to, device const float* from, uint n)
{
    for (; n >= SH_TILE; n -= SH_TILE) {
        sh_values_tile<DEGREE>(to, from, SH_TILE);
        to += DEGREE * DEGREE * SH_TILE;
        from += 3u * SH_TILE;
    }
    sh_values_tile<DEGREE>(to, from, n);
}

// grad_direction = sum over components of grad_value times the component's derivative, of a tile of n directions.
template <uint DEGREE>
inline void sh_gradients_tile(device float* grad_directions, device const float* directions,
                              device const float* grad_values, uint n)
{
    for (uint k = 0u; k < n; ++k) {
        const float x = directions[3u * k];
        const float y = directions[3u * k + 1u];
        const float z = directions[3u * k + 2u];
        device const float* g = grad_values + DEGREE * DEGREE * k;
        float grad_x = 0.0f;
        float grad_y = 0.0f;
        float grad_z = 0.0f;
        if (DEGREE > 1u) {
            grad_x -= SH_1 * g[3];
            grad_y -= SH_1 * g[1];
            grad_z += SH_1 * g[2];
        }
        if (DEGREE > 2u) {
            grad_x += SH_2 * (y * g[4] - z * g[7] + x * g[8]);
            grad_y += SH_2 * (x * g[4] - z * g[5] - y * g[8]);
            grad_z += 6.0f * SH_2_0 * z * g[6] - SH_2 * (y * g[5] + x * g[7]);
        }
        if (DEGREE > 3u) {
            const float ring = SH_3_1 * (1.0f - 5.0f * (z * z));
            const float saddle = x * x - y * y;
            const float xy = 6.0f * SH_3_3 * (x * y);
            grad_x +=
                SH_3_2 * z * (y * g[10] + x * g[14]) + ring * g[13] - xy * g[9] - 3.0f * SH_3_3 * saddle * g[15];
            grad_y +=
                SH_3_2 * z * (x * g[10] - y * g[14]) + ring * g[11] + xy * g[15] - 3.0f * SH_3_3 * saddle * g[9];
            grad_z += SH_3_2 * (x * y * g[10] + 0.5f * saddle * g[14]) -
                      10.0f * SH_3_1 * z * (y * g[11] + x * g[13]) +
                      3.0f * SH_3_0 * (5.0f * (z * z) - 1.0f) * g[12];
        }
        grad_directions[3u * k] = grad_x;
        grad_directions[3u * k + 1u] = grad_y;
        grad_directions[3u * k + 2u] = grad_z;
    }
}

template <uint DEGREE>
inline void sh_gradients(device float* to, device const float* from, device const float* grads, uint n)
{
    for (; n >= SH_TILE; n -= SH_TILE) {
        sh_gradients_tile<DEGREE>(to, from, grads, SH_TILE);
        to += 3u * SH_TILE;
        from += 3u * SH_TILE;
        grads += DEGREE * DEGREE * SH_TILE;
    }
    sh_gradients_tile<DEGREE>(to, from, grads, n);
}

// Y_l^m(direction) for all l < degree.
// Dispatched threads: ceil(n_directions / directions_per_thread).
// Not handled: a degree other than 1 to 4 (refused by the op, nothing is written).
kernel void sh_forward_f32(
    device const float* directions [[buffer(0)]],  // [n_directions, 3] unit length
    device float* values [[buffer(1)]],            // [n_directions, degree * degree]
    constant ShParams& p [[buffer(2)]],
    uint gid [[thread_position_in_grid]])
{
    const uint begin = gid * p.directions_per_thread;
    if (begin >= p.n_directions) {
        return;
    }
    const uint n = min(p.directions_per_thread, p.n_directions - begin);
    device const float* from = directions + 3u * begin;
    device float* to = values + p.degree * p.degree * begin;
    switch (p.degree) {
        case 1u: sh_values<1u>(to, from, n); break;
        case 2u: sh_values<2u>(to, from, n); break;
        case 3u: sh_values<3u>(to, from, n); break;
        case 4u: sh_values<4u>(to, from, n); break;
    }
}

// The gradient of sh_forward's values with respect to the directions as they are, of any length.
// Dispatched threads: ceil(n_directions / directions_per_thread).
// Not handled: a degree other than 1 to 4 (refused by the op, nothing is written).
kernel void sh_backward_f32(
    device const float* directions [[buffer(0)]],   // [n_directions, 3] unit length
    device const float* grad_values [[buffer(1)]],  // [n_directions, degree * degree]
    device float* grad_directions [[buffer(2)]],    // [n_directions, 3]
    constant ShParams& p [[buffer(3)]],
    uint gid [[thread_position_in_grid]])
{
    const uint begin = gid * p.directions_per_thread;
    if (begin >= p.n_directions) {
        return;
    }
    const uint n = min(p.directions_per_thread, p.n_directions - begin);
    device const float* from = directions + 3u * begin;
    device const float* grads = grad_values + p.degree * p.degree * begin;
    device float* to = grad_directions + 3u * begin;
    switch (p.degree) {
        case 1u: sh_gradients<1u>(to, from, grads, n); break;
        case 2u: sh_gradients<2u>(to, from, grads, n); break;
        case 3u: sh_gradients<3u>(to, from, grads, n); break;
        case 4u: sh_gradients<4u>(to, from, grads, n); break;
    }
}
