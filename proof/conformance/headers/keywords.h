// Metal's keywords for clang's C++ for OpenCL, whose address spaces are Metal's: no conversion between them,
// threadgroup variables in kernels alone, program scope in constant. A pointer without a space is generic there,
// which nothing in a shader may be.
#pragma OPENCL EXTENSION cl_khr_fp16 : enable
#define __METAL_VERSION__ 310

#define device __global
#define thread __private
#define threadgroup __local

// The attributes of our subset, with what they name as arguments: the syntax tree keeps those.
#define buffer(n) clang::annotate("", "buffer", n)
#define thread_position_in_grid clang::annotate("", "thread_position_in_grid")
#define threadgroup_position_in_grid clang::annotate("", "threadgroup_position_in_grid")
#define thread_position_in_threadgroup clang::annotate("", "thread_position_in_threadgroup")
#define thread_index_in_threadgroup clang::annotate("", "thread_index_in_threadgroup")
#define thread_index_in_simdgroup clang::annotate("", "thread_index_in_simdgroup")
#define simdgroup_index_in_threadgroup clang::annotate("", "simdgroup_index_in_threadgroup")

// Of Metal 3.2: an attribute that no one knows.
#define coherent(space) [[coherent]]

// Words of OpenCL that mean nothing in Metal: other names, or none.
#define global global_
#define local local_
#define generic generic_
#define pipe pipe_
#define read_only read_only_
#define write_only write_only_
#define read_write read_write_
#define uniform uniform_
#define atomic_uint metal::atomic_uint_
#define atomic_float metal::atomic_float_
#define atomic_int atomic_int_
#define atomic_long atomic_long_
#define atomic_ulong atomic_ulong_
#define atomic_double atomic_double_
#define atomic_flag atomic_flag_
#define atomic_size_t atomic_size_t_
#pragma GCC poison __global __local __private __constant __generic __kernel vec_step

typedef unsigned char uchar;
typedef unsigned short ushort;
typedef unsigned int uint;
typedef unsigned long ulong;
typedef unsigned long size_t;
