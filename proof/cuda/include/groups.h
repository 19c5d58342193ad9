// How many groups a grid of threads has.
#pragma once
#include <cuda_runtime.h>

#include <cstdint>
#include <stdexcept>
#include <string>

// Along one axis. The sum has 33 bits where the grid has 32.
__host__ __device__ constexpr uint32_t groups_along(uint32_t grid, uint32_t group)
{
    return static_cast<uint32_t>((uint64_t(grid) + group - 1) / group);
}

// In all, as they are counted along x alone, where CUDA takes the most.
inline uint32_t group_count(const uint32_t* grid, const uint32_t* group)
{
    constexpr uint64_t kMost = 0x7FFFFFFF;
    uint64_t count = 1;
    for (int axis = 0; axis < 3; ++axis) {
        count *= groups_along(grid[axis], group[axis]);
        if (count > kMost) {
            const auto written = [](const uint32_t* size) {
                return std::to_string(size[0]) + " x " + std::to_string(size[1]) + " x " + std::to_string(size[2]);
            };
            throw std::runtime_error("grid must have at most " + std::to_string(kMost) + " groups, got " +
                                     written(grid) + " threads in groups of " + written(group));
        }
    }
    return static_cast<uint32_t>(count);
}
