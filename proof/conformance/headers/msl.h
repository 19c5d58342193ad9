// The names of Metal's library that the shaders use: what csrc/host/msl.h gives to the host, with Metal's
// overloads. Declared, not defined. No other name is known, and none takes a double.
#ifndef NERF_METAL_CONFORMANCE_MSL_H
#define NERF_METAL_CONFORMANCE_MSL_H

namespace metal {

// ---- vectors: with Metal's constructors, by macros, for clang's own vectors have none ----
#define VECTORS(T)                                                           \
    typedef T T##2 __attribute__((ext_vector_type(2)));                      \
    typedef T T##3 __attribute__((ext_vector_type(3)));                      \
    typedef T T##4 __attribute__((ext_vector_type(4)));                      \
    constexpr T##2 make_##T##2(T x);                                         \
    constexpr T##2 make_##T##2(T x, T y);                                    \
    constexpr T##3 make_##T##3(T x);                                         \
    constexpr T##3 make_##T##3(T x, T y, T z);                               \
    constexpr T##3 make_##T##3(T##2 xy, T z);                                \
    constexpr T##3 make_##T##3(T x, T##2 yz);                                \
    constexpr T##4 make_##T##4(T x);                                         \
    constexpr T##4 make_##T##4(T x, T y, T z, T w);                          \
    constexpr T##4 make_##T##4(T##3 xyz, T w);                               \
    constexpr T##4 make_##T##4(T##2 xy, T##2 zw);                            \
    template <typename V>                                                    \
    constexpr decltype(__builtin_convertvector(V(), T##2)) make_##T##2(V v); \
    template <typename V>                                                    \
    constexpr decltype(__builtin_convertvector(V(), T##3)) make_##T##3(V v); \
    template <typename V>                                                    \
    constexpr decltype(__builtin_convertvector(V(), T##4)) make_##T##4(V v);
VECTORS(uchar)
VECTORS(ushort)
VECTORS(int)
VECTORS(uint)
VECTORS(ulong)
VECTORS(half)
VECTORS(float)
#undef VECTORS

// ---- bits ----
template <typename To, typename From>
To as_type(From value);

// ---- arithmetic: Metal overloads by type, so that arguments of two types are ambiguous ----
#define EACH_FLOAT(F) F(float) F(half)
#define EACH_INTEGER(F) F(int) F(uint) F(short) F(ushort) F(char) F(uchar) F(long) F(ulong)
#define UNARY(T)  \
    T fabs(T x);  \
    T floor(T x); \
    T ceil(T x);  \
    T sqrt(T x);  \
    T exp(T x);
#define MIN_MAX(T)   \
    T min(T x, T y); \
    T max(T x, T y);
#define MULHI(T) T mulhi(T x, T y);
EACH_FLOAT(UNARY)
EACH_FLOAT(MIN_MAX)
EACH_INTEGER(MIN_MAX)
EACH_INTEGER(MULHI)
#undef UNARY
#undef MIN_MAX
#undef MULHI

// ---- atomics: device memory, relaxed order ----
enum memory_order { memory_order_relaxed };
class atomic_uint_ {
    uint value;
};
class atomic_float_ {
    float value;
};
uint atomic_fetch_add_explicit(volatile device atomic_uint* object, uint operand, memory_order order);
uint atomic_fetch_max_explicit(volatile device atomic_uint* object, uint operand, memory_order order);
float atomic_fetch_add_explicit(volatile device atomic_float* object, float operand, memory_order order);

// ---- collectives ----
enum class mem_flags { mem_none = 0, mem_device = 1, mem_threadgroup = 2 };
void threadgroup_barrier(mem_flags flags);
void simdgroup_barrier(mem_flags flags);
#define COLLECTIVES(T)                       \
    T simd_sum(T data);                      \
    T simd_product(T data);                  \
    T simd_prefix_exclusive_sum(T data);     \
    T simd_prefix_exclusive_product(T data); \
    T simd_broadcast(T data, ushort lane);   \
    T simd_shuffle_down(T data, ushort delta);
EACH_FLOAT(COLLECTIVES)
EACH_INTEGER(COLLECTIVES)
#undef COLLECTIVES
#undef EACH_FLOAT
#undef EACH_INTEGER

// ---- matrices of a SIMD-group ----
template <typename T, int Cols, int Rows>
struct simdgroup_matrix {
private:
    T elements[2];
};
typedef simdgroup_matrix<float, 8, 8> simdgroup_float8x8;
typedef simdgroup_matrix<half, 8, 8> simdgroup_half8x8;
template <typename T, int Cols, int Rows>
simdgroup_matrix<T, Cols, Rows> make_filled_simdgroup_matrix(T value);
#define LOAD_STORE(T, SPACE)                                                                                 \
    void simdgroup_load(thread simdgroup_matrix<T, 8, 8>& d, const SPACE T* src, ulong elements_per_row = 8, \
                        ulong2 origin = ulong2(0), bool transpose = false);                                  \
    void simdgroup_store(simdgroup_matrix<T, 8, 8> a, SPACE T* dst, ulong elements_per_row = 8,              \
                         ulong2 origin = ulong2(0), bool transpose = false);
LOAD_STORE(float, device)
LOAD_STORE(float, threadgroup)
LOAD_STORE(half, device)
LOAD_STORE(half, threadgroup)
#undef LOAD_STORE
template <typename D, typename A, typename B>
void simdgroup_multiply(thread simdgroup_matrix<D, 8, 8>& d, simdgroup_matrix<A, 8, 8> a,
                        simdgroup_matrix<B, 8, 8> b);
template <typename D, typename A, typename B, typename C>
void simdgroup_multiply_accumulate(thread simdgroup_matrix<D, 8, 8>& d, simdgroup_matrix<A, 8, 8> a,
                                   simdgroup_matrix<B, 8, 8> b, simdgroup_matrix<C, 8, 8> c);

}  // namespace metal

#define int2(...) metal::make_int2(__VA_ARGS__)
#define int3(...) metal::make_int3(__VA_ARGS__)
#define int4(...) metal::make_int4(__VA_ARGS__)
#define uint2(...) metal::make_uint2(__VA_ARGS__)
#define uint3(...) metal::make_uint3(__VA_ARGS__)
#define uint4(...) metal::make_uint4(__VA_ARGS__)
#define ulong2(...) metal::make_ulong2(__VA_ARGS__)
#define half2(...) metal::make_half2(__VA_ARGS__)
#define half3(...) metal::make_half3(__VA_ARGS__)
#define half4(...) metal::make_half4(__VA_ARGS__)
#define float2(...) metal::make_float2(__VA_ARGS__)
#define float3(...) metal::make_float3(__VA_ARGS__)
#define float4(...) metal::make_float4(__VA_ARGS__)

#endif
