// How a kernel is started. The grid counts threads, as Metal's does.
#pragma once
#include <cuda_runtime.h>

#include <cstdint>

#include "groups.h"

template <typename... Parameters, typename... Arguments>
int launch(void (*entry)(Parameters...), const uint32_t* grid, const uint32_t* group, Arguments... arguments)
{
    const dim3 threads(group[0], group[1], group[2]);
    entry<<<group_count(grid, group), threads>>>(arguments..., dim3(grid[0], grid[1], grid[2]));
    return cudaGetLastError();
}
