// The words of the language that csrc/host/msl.h gives to the host, one kernel each, and grids of every dimension.
#include "common.h"
#include "params.h"
#include "scan.h"
#include "tile.h"

// Dispatched threads: n.
// Not handled: nothing.
kernel void language_widen(
    device const half* x [[buffer(0)]],  // [n]
    device float* y [[buffer(1)]],       // [n]
    constant CountParams& p [[buffer(2)]],
    uint i [[thread_position_in_grid]])
{
    y[i] = float(x[i]);
}

// Dispatched threads: n.
// Not handled: nothing.
kernel void language_narrow(
    device const float* x [[buffer(0)]],  // [n]
    device half* y [[buffer(1)]],         // [n]
    constant CountParams& p [[buffer(2)]],
    uint i [[thread_position_in_grid]])
{
    y[i] = half(x[i]);
}

// Dispatched threads: n.
// Not handled: nothing.
kernel void language_exp(
    device const float* x [[buffer(0)]],  // [n]
    device float* y [[buffer(1)]],        // [n]
    constant CountParams& p [[buffer(2)]],
    uint i [[thread_position_in_grid]])
{
    y[i] = exp(x[i]);
}

// Dispatched threads: n.
// Not handled: nothing.
kernel void language_sqrt(
    device const float* x [[buffer(0)]],  // [n]
    device float* y [[buffer(1)]],        // [n]
    constant CountParams& p [[buffer(2)]],
    uint i [[thread_position_in_grid]])
{
    y[i] = sqrt(x[i]);
}

// Dispatched threads: n.
// Not handled: NaN.
kernel void language_floats(
    device const float* a [[buffer(0)]],  // [n]
    device const float* b [[buffer(1)]],  // [n]
    device float* y [[buffer(2)]],        // [4, n]
    constant CountParams& p [[buffer(3)]],
    uint i [[thread_position_in_grid]])
{
    y[i] = min(a[i], b[i]);
    y[p.n + i] = max(a[i], b[i]);
    y[2u * p.n + i] = fabs(a[i]);
    y[3u * p.n + i] = ceil(a[i]);
}

// Dispatched threads: n.
// Not handled: nothing.
kernel void language_integers(
    device const int* a [[buffer(0)]],  // [n]
    device const int* b [[buffer(1)]],  // [n]
    device int* y [[buffer(2)]],        // [5, n]
    constant CountParams& p [[buffer(3)]],
    uint i [[thread_position_in_grid]])
{
    y[i] = min(a[i], b[i]);
    y[p.n + i] = max(a[i], b[i]);
    y[2u * p.n + i] = int(min(uint(a[i]), uint(b[i])));
    y[3u * p.n + i] = int(max(uint(a[i]), uint(b[i])));
    y[4u * p.n + i] = int(mulhi(uint(a[i]), uint(b[i])));
}

// Dispatched threads: n.
// Not handled: nothing.
kernel void language_bits(
    device const float* x [[buffer(0)]],  // [n]
    device float* y [[buffer(1)]],        // [n]
    constant CountParams& p [[buffer(2)]],
    uint i [[thread_position_in_grid]])
{
    y[i] = as_type<float>(as_type<uint>(x[i]) ^ 0x80000001u);
}

// The scans of scan.h over 32 numbers of each thread.
// Dispatched threads: n.
// Not handled: nothing.
kernel void language_scans(
    device const float* x [[buffer(0)]],  // [n, 32]
    device const float* y [[buffer(1)]],  // [n, 32]
    device float* products [[buffer(2)]],  // [n, 33] before each number, and what follows the last
    device float* maps [[buffer(3)]],      // [n, 33] after each number, and what comes before the first
    device float* sums [[buffer(4)]],      // [n]
    constant CountParams& p [[buffer(5)]],
    uint i [[thread_position_in_grid]])
{
    float one[32];
    float two[32];
    float out[32];
    for (uint k = 0u; k < 32u; ++k) {
        one[k] = x[32u * i + k];
        two[k] = y[32u * i + k];
    }
    products[33u * i + 32u] = prefix_products<32>(one, out, 0.5f);
    for (uint k = 0u; k < 32u; ++k) {
        products[33u * i + k] = out[k];
    }
    maps[33u * i + 32u] = suffix_maps<32>(one, two, out, 2.0f);
    for (uint k = 0u; k < 32u; ++k) {
        maps[33u * i + k] = out[k];
    }
    sums[i] = total<32>(two);
}

// The products of tile.h, as many rows and columns of them as each thread is told, in every form there is.
// Dispatched threads: n.
// Not handled: rows and columns that tile.h does not take.
kernel void language_products(
    device const float* a [[buffer(0)]],  // [128, 9]
    device const float* a_t [[buffer(1)]],  // [9, 128]
    device const float* b [[buffer(2)]],  // [9, 128]
    device const float* bias [[buffer(3)]],  // [128]
    device const float* gate [[buffer(4)]],  // [128, 128]
    device const int* shapes [[buffer(5)]],  // [n, 2] rows, columns
    device float* c [[buffer(6)]],  // [5, n, 128, 128]
    constant CountParams& p [[buffer(7)]],
    uint i [[thread_position_in_grid]])
{
    const uint rows = uint(shapes[2u * i]);
    const uint columns = uint(shapes[2u * i + 1u]);
    const uint size = 128u * 128u;
    device float* to = c + i * size;
    tile_product<false, TILE_AS_IS>(to, 128u, a, 9u, 1u, b, 128u, rows, columns, 9u, bias, gate);
    to += p.n * size;
    tile_product<false, TILE_RELU>(to, 128u, a, 9u, 1u, b, 128u, rows, columns, 9u, bias, gate);
    to += p.n * size;
    tile_product<false, TILE_GATE>(to, 128u, a, 9u, 1u, b, 128u, rows, columns, 9u, bias, gate);
    to += p.n * size;
    tile_product<true, TILE_AS_IS>(to, 128u, a, 9u, 1u, b, 128u, rows, columns, 9u, bias, gate);
    to += p.n * size;
    tile_product<true, TILE_AS_IS>(to, 128u, a_t, 1u, 128u, b, 128u, rows, columns, 9u, bias, gate);
}

// Which thread wrote what, over a plane.
// Dispatched threads: nx x ny.
// Not handled: nothing.
kernel void language_plane(
    device int* out [[buffer(0)]],  // [nx * ny, 2]
    constant SpaceParams& p [[buffer(1)]],
    uint2 gid [[thread_position_in_grid]])
{
    device int* row = out + 2u * (gid.y * p.nx + gid.x);
    row[0] = int(gid.x);
    row[1] = int(gid.y);
}

// Which thread wrote what, over a box.
// Dispatched threads: nx x ny x nz.
// Not handled: nothing.
kernel void language_box(
    device int* out [[buffer(0)]],  // [nx * ny * nz, 3]
    constant SpaceParams& p [[buffer(1)]],
    uint3 gid [[thread_position_in_grid]])
{
    device int* row = out + 3u * ((gid.z * p.ny + gid.y) * p.nx + gid.x);
    row[0] = int(gid.x);
    row[1] = int(gid.y);
    row[2] = int(gid.z);
}

// How often each thread ran.
// Dispatched threads: n.
// Not handled: nothing.
kernel void language_count(
    device int* times [[buffer(0)]],  // [n]
    constant CountParams& p [[buffer(1)]],
    uint i [[thread_position_in_grid]])
{
    times[i] += 1;
}

// Every thread adds to the same three numbers, and counts what it was given back.
// Dispatched threads: n.
// Not handled: more than n threads.
kernel void language_atomics(
    device atomic_uint* sums [[buffer(0)]],  // [2] sum of i, greatest i
    device atomic_float* total [[buffer(1)]],  // [1]
    device int* before [[buffer(2)]],  // [n] the sum of ones as each thread found it
    device atomic_uint* ones [[buffer(3)]],  // [1]
    constant CountParams& p [[buffer(4)]],
    uint i [[thread_position_in_grid]])
{
    if (i >= p.n) {
        return;
    }
    atomic_fetch_add_explicit(&sums[0], i, memory_order_relaxed);
    atomic_fetch_max_explicit(&sums[1], i, memory_order_relaxed);
    atomic_fetch_add_explicit(&total[0], float(int(i)), memory_order_relaxed);
    before[i] = int(atomic_fetch_add_explicit(&ones[0], 1u, memory_order_relaxed));
}

// Waits until all threads have come, or for long: whether they run at the same time.
// Dispatched threads: n.
// Not handled: more threads than the machine has.
kernel void language_meet(
    device atomic_uint* arrived [[buffer(0)]],  // [1]
    device int* met [[buffer(1)]],  // [n] 0 or 1
    constant CountParams& p [[buffer(2)]],
    uint i [[thread_position_in_grid]])
{
    atomic_fetch_add_explicit(&arrived[0], 1u, memory_order_relaxed);
    uint seen = 0u;
    for (uint tries = 0u; tries < 50000000u && seen < p.n; ++tries) {
        seen = atomic_fetch_add_explicit(&arrived[0], 0u, memory_order_relaxed);
    }
    met[i] = seen >= p.n ? 1 : 0;
}
