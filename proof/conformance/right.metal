// What C++14 has and Metal takes, with names and places that a checker might stumble over.
#include "common.h"

struct Params {
    uint n;
    float s;
};

enum class Mode : uint { ONE, TWO };

// Attribute names in comments: [[buffer(99)]], double, goto, new. In names: newest, doubled.
template <typename T>
constexpr T doubled(T x)
{
    return x + x;
}

constexpr uint power(uint base, uint exponent)
{
    uint result = 1u;
    for (uint i = 0u; i < exponent; ++i) {
        result *= base;
    }
    return result;
}

template <uint N>
constexpr constant uint SQUARE = N * N;

static constant float STEPS[3] = {0.5f, 1.0f, 2.0f};
constexpr constant uint BITS = 0b1010'0000u;
constant half HALF = 0.5h;
static_assert(power(2u, 5u) == SIMD_WIDTH, "a SIMD-group has 32 lanes");

struct Pair {
    float x;
    float y;
};

struct Grid {
    Pair pairs[2];
    uint n[3];
};

using Pairs = device const float*;

inline auto newest(Pair a, Pair b)
{
    return a.x > b.x ? a : b;
}

inline void fill(thread Grid& grid, Pairs from, constant Params& p)
{
    for (uint i = 0u; i < 2u; ++i) {
        grid.pairs[i].x = from[2u * i];
        grid.pairs[i].y = from[2u * i + 1u];
    }
    for (uint i = 0u; i < 3u; ++i) {
        grid.n[i] = p.n + i;
    }
}

inline float mode_of(Mode mode)
{
    switch (mode) {
        case Mode::ONE:
            return 1.0f;
        case Mode::TWO:
            return STEPS[2];
    }
    return 0.0f;
}

kernel void every_word(
    device float* a [[buffer(0)]],        // [n]
    device const float* b [[buffer(1)]],  // [n]
    constant Params& p [[buffer(30)]],
    uint3 global [[thread_position_in_grid]],
    uint3 local [[thread_position_in_threadgroup]],
    ushort generic [[thread_index_in_threadgroup]],
    ushort3 pipe [[threadgroup_position_in_grid]])
{
    Grid grid;
    fill(grid, b, p);
    Grid copy = grid;
    copy.pairs[1] = newest(grid.pairs[0], grid.pairs[1]);
    thread Pair& last = copy.pairs[1];
    thread const float* at = &last.x;
    auto read = b + global.x;
    const half small = half(read[0]) * HALF;
    float3 v = float3(read[0], float(small), last.y);
    v.xy = v.yx * 2.0f;
    const float values[2] = {v.x, *at};
    Pair none = {};
    do {
        none.x += values[local.x & 1u];
    } while (none.x < p.s);
    float sum;
    if (p.n > SQUARE<4u>) {
        sum = doubled(none.x);
    } else {
        sum = mode_of(p.n == BITS ? Mode::ONE : Mode::TWO);
    }
    a[global.x] = sum + float(grid.n[2]) + float(int(generic)) + float(int(pipe.x)) + none.y;
}
