// Words of the Metal Shading Language that mean the same to every C++ compiler that reads the shaders, the host's
// and nvcc's (proof/cuda): address spaces and attributes nothing, the whole numbers what they are. Included inside
// their namespaces.
#define device
#define constant const
#define thread
#define threadgroup
#define buffer(n) maybe_unused
#define thread_position_in_grid maybe_unused
#define threadgroup_position_in_grid maybe_unused
#define thread_position_in_threadgroup maybe_unused
#define thread_index_in_threadgroup maybe_unused
#define thread_index_in_simdgroup maybe_unused
#define simdgroup_index_in_threadgroup maybe_unused

using uint = unsigned int;
using ushort = unsigned short;
using uchar = unsigned char;
using ulong = unsigned long;
