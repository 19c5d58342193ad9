// The host's form of a kernel. No standard library: the units compiled for newer processors include this, and an
// inline function shared with them could be linked in their form and crash an older machine.
#pragma once

namespace nerf_metal {

struct Id3 {
    unsigned x, y, z;
};

// The attributes of one thread, as Metal defines them.
struct ThreadIds {
    Id3 position_in_grid;
    Id3 group_position_in_grid;
    Id3 position_in_group;
    unsigned index_in_group;
    unsigned lane;
    unsigned simdgroup;
};

struct HostKernel {
    const char* name;
    // Threads [begin, end) of the grid, x fastest; null where the kernel uses collectives.
    void (*range)(void* const* buffers, const void* params, const unsigned* grid, unsigned long begin,
                  unsigned long end);
    // One thread; its collectives go to the strict executor. Null outside the strict unit.
    void (*thread)(void* const* buffers, const void* params, const ThreadIds& ids);
};

// Those of one shader file.
struct HostKernelTable {
    const HostKernel* kernels;
    unsigned long count;
};

}  // namespace nerf_metal

// The table of one shader file, compiled for one instruction set or in the strict reading (isa: strict).
#define NERF_METAL_TABLE(isa, shader) NERF_METAL_JOIN(isa, shader)
#define NERF_METAL_JOIN(isa, shader) nerf_metal_host_kernels_##isa##_##shader
