// What metal/scan.h declares for Metal as plain loops, for the host as vectors: a scan is the one thing here that
// a compiler does not make vectors of by itself. Included by msl.h, in its anonymous namespace and under its
// rules; its guard has metal/scan.h skipped.
#define NERF_METAL_SCAN_H

// One vector of the instruction set this is compiled for.
#if defined(__AVX512F__)
constexpr uint SCAN_LANES = 16u;
#elif defined(__AVX2__)
constexpr uint SCAN_LANES = 8u;
#else
constexpr uint SCAN_LANES = 4u;  // SSE2, NEON
#endif

typedef float ScanVector __attribute__((vector_size(SCAN_LANES * sizeof(float))));

inline ScanVector scan_load(const float* from)
{
    ScanVector v;
    __builtin_memcpy(&v, from, sizeof v);
    return v;
}
inline void scan_store(float* to, ScanVector v)
{
    __builtin_memcpy(to, &v, sizeof v);
}
inline ScanVector scan_splat(float value)
{
    return ScanVector{} + value;
}

template <uint... I>
struct ScanIndices {};
template <uint N, uint... I>
struct ScanCount : ScanCount<N - 1u, N - 1u, I...> {};
template <uint... I>
struct ScanCount<0u, I...> {
    using type = ScanIndices<I...>;
};
using ScanLanes = ScanCount<SCAN_LANES>::type;

// Lane i takes lane FROM + i of (a, b) laid side by side.
template <uint FROM, uint... I>
inline ScanVector scan_window(ScanVector a, ScanVector b, ScanIndices<I...>)
{
#if defined(__clang__) || __GNUC__ >= 12
    return __builtin_shufflevector(a, b, (FROM + I)...);
#else
    typedef int Mask __attribute__((vector_size(sizeof(ScanVector))));
    return __builtin_shuffle(a, b, Mask{int(FROM + I)...});
#endif
}

// Lanes moved up by STEP, those left free taken from fill; and down.
template <uint STEP>
inline ScanVector scan_up(ScanVector v, ScanVector fill)
{
    return scan_window<SCAN_LANES - STEP>(fill, v, ScanLanes{});
}
template <uint STEP>
inline ScanVector scan_down(ScanVector v, ScanVector fill)
{
    return scan_window<STEP>(v, fill, ScanLanes{});
}

// Inclusive scans within a vector (Hillis and Steele 1986).
template <uint STEP = 1u>
inline ScanVector scan_products(ScanVector v)
{
    if constexpr (STEP < SCAN_LANES) {
        return scan_products<2u * STEP>(v * scan_up<STEP>(v, scan_splat(1.0f)));
    } else {
        return v;
    }
}
template <uint STEP = SCAN_LANES / 2u>
inline float scan_sum(ScanVector v)
{
    if constexpr (STEP > 0u) {
        return scan_sum<STEP / 2u>(v + scan_down<STEP>(v, v));
    } else {
        return v[0];
    }
}
template <uint STEP = 1u>
inline void scan_maps(ScanVector& scale, ScanVector& offset)
{
    if constexpr (STEP < SCAN_LANES) {
        offset += scale * scan_down<STEP>(offset, ScanVector{});
        scale *= scan_down<STEP>(scale, scan_splat(1.0f));
        scan_maps<2u * STEP>(scale, offset);
    }
}

template <uint N>
inline float prefix_products(const float* x, float* before, float carry)
{
    static_assert(N % SCAN_LANES == 0u, "whole vectors");
    const ScanVector one = scan_splat(1.0f);
    for (uint k = 0u; k < N; k += SCAN_LANES) {
        const ScanVector products = scan_products(scan_load(x + k));
        scan_store(before + k, carry * scan_up<1u>(products, one));
        carry *= products[SCAN_LANES - 1u];
    }
    return carry;
}

template <uint N>
inline float suffix_maps(const float* scale, const float* offset, float* after, float carry)
{
    static_assert(N % SCAN_LANES == 0u, "whole vectors");
    const ScanVector one = scan_splat(1.0f);
    for (uint k = N; k > 0u; k -= SCAN_LANES) {
        ScanVector s = scan_load(scale + k - SCAN_LANES);
        ScanVector o = scan_load(offset + k - SCAN_LANES);
        scan_maps(s, o);
        scan_store(after + k - SCAN_LANES, scan_down<1u>(o, ScanVector{}) + scan_down<1u>(s, one) * carry);
        carry = o[0] + s[0] * carry;
    }
    return carry;
}

template <uint N>
inline float total(const float* x)
{
    static_assert(N % SCAN_LANES == 0u, "whole vectors");
    ScanVector sum = scan_load(x);
    for (uint k = SCAN_LANES; k < N; k += SCAN_LANES) {
        sum += scan_load(x + k);
    }
    return scan_sum(sum);
}
