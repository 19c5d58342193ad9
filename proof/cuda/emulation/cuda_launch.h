// In place of proof/cuda/include/cuda_launch.h: <<<...>>> is no C++.
#pragma once
#include <cstdint>

#include "cuda_runtime.h"
#include "groups.h"

template <typename... Parameters, typename... Arguments>
int launch(void (*entry)(Parameters...), const uint32_t* grid, const uint32_t* group, Arguments... arguments)
{
    emulation::run_grid(group_count(grid, group), dim3(group[0], group[1], group[2]),
                        [&] { entry(arguments..., dim3(grid[0], grid[1], grid[2])); });
    return cudaSuccess;
}
