// The Metal Shading Language as the host's C++ compiler reads it: the names that the shaders use, and no others.
// Included inside an anonymous namespace by each shader's unit (cmake/generate.py), so that nothing here has a
// symbol other units could be given; for the same reason no standard header is included.
//
// Five headers of metal/ have a form of their own for the host. Nothing in metal/ asks who reads it: the form here
// defines the guard of the file that it stands for, which is then skipped.
//   metal/language.h  this file and collectives_host.h: the language and its library
//   metal/tuning.h    tuning_host.h: sizes of tiles and blocks, prefetching
//   metal/scan.h      scan_host.h: running products and sums
//   metal/rows.h      rows_host.h: rows of the hash grid's table, located a tile ahead
//   metal/tile.h      tile_host.h: products of matrices by one thread
#define NERF_METAL_LANGUAGE_H

#include "host/msl_words.h"
#define kernel static inline
// The build reads these lines itself and calls the instance.
#define INSTANTIATE(name, function, ...) static_assert(true, #name)
#define UNROLL

// ---- vectors: construction and components ----
struct uint2 {
    uint x, y;
    uint2(uint a, uint b) : x(a), y(b) {}
};
struct uint3 {
    uint x, y, z;
    uint3(uint a, uint b, uint c) : x(a), y(b), z(c) {}
};
struct ulong2 {
    ulong x, y;
    ulong2(ulong a, ulong b) : x(a), y(b) {}
};
struct float3 {
    float x, y, z;
    float3(float a, float b, float c) : x(a), y(b), z(c) {}
};

// ---- bits ----
template <typename To, typename From>
inline To as_type(From value)
{
    return __builtin_bit_cast(To, value);
}

// ---- half: storage only, arithmetic is float ----
// Bit arithmetic instead of the compiler's type: it needs no run-time library, vectorises, and is the same
// everywhere.

struct half {
    ushort bits;
    half() = default;
    explicit half(float value) : bits(round_from(value)) {}
    operator float() const
    {
        const uint magnitude = bits & 0x7FFFu;
        // 2^112 moves the exponent bias from 15 to 127 and makes denormals normal, exactly; infinity and NaN keep
        // their all-ones exponent by hand.
        const float finite = as_type<float>(magnitude << 13) * 5.192296858534828e33f;
        const uint body = magnitude >= 0x7C00u ? (magnitude << 13) | 0x7F800000u : as_type<uint>(finite);
        return as_type<float>(body | (uint(bits & 0x8000u) << 16));
    }

private:
    // Round to nearest, ties to even.
    static ushort round_from(float value)
    {
        const uint all = as_type<uint>(value);
        const uint sign = (all >> 16) & 0x8000u;
        const uint magnitude = all & 0x7FFFFFFFu;
        // Normal results: add half of the last place (and the last bit kept, for ties), then shift.
        const uint normal = (magnitude + 0xFFFu + ((magnitude >> 13) & 1u) - (112u << 23)) >> 13;
        // Denormal results: adding 0.5 makes the FPU round at 2^-24.
        const uint denormal = as_type<uint>(as_type<float>(magnitude) + 0.5f) - 0x3F000000u;
        const uint special = magnitude > 0x7F800000u ? 0x7E00u : 0x7C00u;
        const uint body = magnitude >= 0x477FF000u ? special : magnitude < 0x38800000u ? denormal : normal;
        return ushort(sign | body);
    }
};

// ---- arithmetic ----
// One instruction each. Of a NaN and a number Metal gives the number, these one or the other: shaders must not
// ask.
inline float min(float a, float b)
{
    return b < a ? b : a;
}
inline float max(float a, float b)
{
    return a < b ? b : a;
}
inline uint min(uint a, uint b)
{
    return b < a ? b : a;
}
inline uint max(uint a, uint b)
{
    return a < b ? b : a;
}
inline int min(int a, int b)
{
    return b < a ? b : a;
}
inline int max(int a, int b)
{
    return a < b ? b : a;
}
inline float fabs(float x)
{
    return __builtin_fabsf(x);
}
inline float floor(float x)
{
    return __builtin_floorf(x);
}
inline float ceil(float x)
{
    return __builtin_ceilf(x);
}
// The upper word of the product: a random word times n is uniform below n.
inline uint mulhi(uint a, uint b)
{
    return uint(static_cast<unsigned long long>(a) * b >> 32);
}
inline float sqrt(float x)
{
    return __builtin_sqrtf(x);
}

#include "exponential.h"

// exp by 2^n times a polynomial on [-ln 2 / 2, ln 2 / 2] (Cody and Waite's reduction): within 2 ulp, without
// branches or selections so that loops of it vectorise. The limits lie where the result is 0 or infinity by
// rounding; a NaN passes through all of it.
inline float exp(float x)
{
    const float above = x < -104.0f ? -104.0f : x;
    const float limited = above > 89.0f ? 89.0f : above;
    const float shifted = limited * 1.44269504f + 12582912.0f;  // 1.5 * 2^23: the sum rounds to an integer
    const float n = shifted - 12582912.0f;
    const float r = (limited - n * 0.693359375f) - n * -2.12194440e-4f;
    const float y = exponential_fraction(r) + 1.0f;
    // 2^n in two factors: neither 2^128 nor 2^-150 has a float of its own.
    const int whole = int(as_type<uint>(shifted)) - 0x4B400000;
    const int part = whole >> 1;
    return y * as_type<float>(uint(part + 127) << 23) * as_type<float>(uint(whole - part + 127) << 23);
}

// ---- atomics: device memory, relaxed order, as the shaders use them ----
enum memory_order { memory_order_relaxed };
struct atomic_uint {
    uint value;
};
struct atomic_float {
    float value;
};
inline uint atomic_fetch_add_explicit(atomic_uint* at, uint value, memory_order)
{
    return __atomic_fetch_add(&at->value, value, __ATOMIC_RELAXED);
}
inline uint atomic_fetch_max_explicit(atomic_uint* at, uint value, memory_order)
{
    uint before;
    __atomic_load(&at->value, &before, __ATOMIC_RELAXED);
    while (before < value &&
           !__atomic_compare_exchange(&at->value, &before, &value, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
    }
    return before;
}
inline float atomic_fetch_add_explicit(atomic_float* at, float value, memory_order)
{
    float before;
    __atomic_load(&at->value, &before, __ATOMIC_RELAXED);
    float after = before + value;
    while (!__atomic_compare_exchange(&at->value, &before, &after, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
        after = before + value;
    }
    return before;
}

// ---- what is vectors and cache lines here, and plain loops for Metal ----
#include "host/tuning_host.h"
#include "host/scan_host.h"
#include "host/rows_host.h"
#include "host/tile_host.h"

#include "host/collectives_host.h"
